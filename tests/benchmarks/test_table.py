from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks.table import Row, run_sections, store, stored
from noworse.task.task import TaskUnavailable


def good(quick: bool) -> list[Row]:
    return [Row("a", 1.0 + quick, "x", ">= 2")]


def absent(quick: bool) -> list[Row]:
    raise TaskUnavailable("no package")


@pytest.mark.parametrize(("words", "shown"), [
    ([], "a 1 x >= 2 MISSED"), (["--quick"], "a 2 x >= 2 ok"), (["--only", "absent"], ""),
])  # fmt: skip
def test_sections_are_run_and_absent_ones_are_said_so(
    words: list[str], shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", *words])
    run_sections({"good": good, "absent": absent}, "A benchmark.")
    out, error = capsys.readouterr()
    assert " ".join(out.split()) == shown
    assert error == "absent: skipped, no package\n"


def test_a_missed_row_ends_a_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", "--check", "--only", "good"])
    with pytest.raises(SystemExit, match="1"):
        run_sections({"good": good, "absent": absent}, "A benchmark.")


def test_rows_of_other_sections_stay_in_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rows.json"
    old = Row("a at 7x", 9.0, "x", section="good")
    store([Row("a", 9.0, "x", ">= 2"), old, Row("b", 3.0, "", ""), Row("c", 4.0, "", section="absent")], path)
    monkeypatch.setattr(sys, "argv", ["benchmark", "--json", str(path), "--only", "good"])
    run_sections({"good": good, "absent": absent}, "A benchmark.")
    new = Row("a", 1.0, "x", ">= 2", "good")
    assert stored(path) == [new, Row("b", 3.0, "", ""), Row("c", 4.0, "", section="absent")]
    monkeypatch.setattr(sys, "argv", ["benchmark", "--json", str(path), "--only", "absent"])
    run_sections({"good": good, "absent": absent}, "A benchmark.")
    assert stored(path) == [new, Row("b", 3.0, "", ""), Row("c", 4.0, "", section="absent")]
    monkeypatch.setattr(sys, "argv", ["benchmark", "--json", str(path)])
    run_sections({"good": good, "absent": absent}, "A benchmark.")
    assert stored(path) == [new]
