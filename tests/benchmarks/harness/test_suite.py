from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.harness import suite as module
from benchmarks.harness.case import CaseFailed
from benchmarks.harness.row import Row, read, write
from benchmarks.harness.run import Run
from benchmarks.harness.suite import Suite, main
from noworse.task.task import TaskUnavailable


def good(run: Run) -> list[Row]:
    return [Row("a", 1.0 + run.quick, "x", ">= 2")]


def absent(run: Run) -> list[Row]:
    raise TaskUnavailable("no package")


def broken(run: Run) -> list[Row]:
    raise CaseFailed("its process ended with 3")


def endless(run: Run) -> Iterator[Row]:
    yield Row("before", 7.0, "x")
    time.sleep(60)
    yield Row("after", 7.0, "x")


SECTIONS = {"good": good, "absent": absent}


@pytest.fixture(autouse=True)
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stored results and work go to a folder of this test."""
    monkeypatch.setattr(module, "RESULTS", tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words: str, **sections: module.Section) -> None:
    main(Suite("suite", "A benchmark.", sections or SECTIONS), words)


@pytest.mark.parametrize(("words", "shown"), [
    ([], "a 1 x >= 2 MISSED"), (["--quick"], "a 2 x >= 2 ok"), (["--only", "absent"], ""),
])  # fmt: skip
def test_sections_are_run_and_absent_ones_are_said_so(
    words: list[str], shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run(*words)
    out, error = capsys.readouterr()
    assert " ".join(out.split()) == shown
    assert error == "absent: skipped, no package\n"


def test_a_missed_row_ends_a_check_which_says_whether_that_is_new(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="1"):
        run("--check")
    assert "1 of 1 rows with a target fall short of it, 1 of them only now\n  a\n" in capsys.readouterr().err
    run("--json")
    with pytest.raises(SystemExit, match="1"):
        run("--check")
    assert "1 of 1 rows with a target fall short of it, 0 of them only now\n" in capsys.readouterr().err
    run("--check", "--quick")


def test_other_sections_go_on_after_one_that_fails_and_the_program_ends_with_its_name(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit, match="failed: broken"):
        run(broken=broken, good=good)
    out, error = capsys.readouterr()
    assert out.startswith("a ")
    assert error == "broken: its process ended with 3\n"


def test_stored_rows_are_shown_without_measuring(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write([Row("b", 3.0, "x", ">= 4", "broken"), Row("a", 3.0, "x", ">= 2", "good")], results / "suite.json")
    run("--show", broken=broken, good=good)
    assert " ".join(capsys.readouterr().out.split()) == "b 3 x >= 4 MISSED a 3 x >= 2 ok"
    run("--show", "--check", "--only", "good", broken=broken, good=good)
    with pytest.raises(SystemExit, match="1"):
        run("--show", "--check", broken=broken, good=good)


def test_rows_of_other_sections_stay_in_the_file(results: Path) -> None:
    path = results / "rows.json"
    old = Row("a at 7x", 9.0, "x", section="good")
    other, unknown = Row("c", 4.0, "", section="absent"), Row("b", 3.0, "", "", "of no section any more")
    write([Row("a", 9.0, "x", ">= 2", "good"), old, unknown, other], path)
    for words in (["--only", "absent"], ["--only", "good"], []):
        run("--json", str(path), *words)
        assert (old in read(path)) == (words == ["--only", "absent"])
        assert other in read(path)
    assert read(path) == [Row("a", 1.0, "x", ">= 2", "good"), other]


def test_a_quick_run_ends_in_time_with_the_rows_that_it_has(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "QUICK_SECONDS", 0.2)
    begin = time.monotonic()
    run("--quick", good=good, endless=endless)
    assert time.monotonic() - begin < 30
    out, error = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["a", "before"]
    assert error == "stopped after 0.2 seconds, as quick runs are\n"


def test_a_quick_run_takes_the_sections_for_it_and_does_not_replace_what_is_stored(
    capsys: pytest.CaptureFixture[str],
) -> None:
    suite = Suite("suite", "A benchmark.", {"broken": broken, "good": good}, quick=["good"])
    main(suite, ["--quick"])
    assert capsys.readouterr().out.startswith("a ")
    with pytest.raises(SystemExit, match="2"):
        main(suite, ["--quick", "--json"])
    assert "--quick does not replace stored results" in capsys.readouterr().err


def test_a_benchmark_may_have_options_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    def add(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--number", type=float)

    suite = Suite("suite", "A benchmark.", {"one": lambda run: [Row("n", run.options.number, "")]}, arguments=add)
    main(suite, ["--number", "5"])
    assert capsys.readouterr().out.split() == ["n", "5"]
