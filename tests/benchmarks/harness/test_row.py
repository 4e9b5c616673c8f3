from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.harness.row import Row, merged, read, text_of, write


@pytest.mark.parametrize(("target", "ok"), [
    (">= 2", True), (">= 2.5", False), ("<= 2", True), ("<= 1.99", False), ("", None),
])  # fmt: skip
def test_a_target_is_met_or_not(target: str, ok: bool | None) -> None:
    assert Row("a", 2.0, "x", target).ok is ok


def test_rows_read_back_as_they_were_written_a_line_each(tmp_path: Path) -> None:
    rows = [Row("a: b", 1e-9, "nats", "<= 0.01", "one"), Row("c", 3, "")]
    write(rows, tmp_path / "rows.json")
    assert read(tmp_path / "rows.json") == rows
    assert (tmp_path / "rows.json").read_text().count("\n") == 4
    assert [row["ok"] for row in json.loads((tmp_path / "rows.json").read_text())] == [True, None]
    assert read(tmp_path / "none.json") == []


def test_names_and_values_stand_below_each_other() -> None:
    first, second = text_of([Row("long name", 1234.5, "x", ">= 1"), Row("b", 0.5, "x", ">= 1")]).splitlines()
    assert first.index("1,234.5") + len("1,234.5") == second.index("0.5") + len("0.5")
    assert first.endswith("ok")
    assert second.endswith("MISSED")


def test_new_rows_take_the_place_of_old_ones_and_of_their_sections() -> None:
    before = [Row("a", 1, "", "", "s"), Row("gone", 2, "", "", "s"), Row("b", 3, "", "", "t")]
    new = [Row("a", 9, "", "", "s"), Row("c", 8, "", "", "s")]
    assert [(row.name, row.value) for row in merged(before, new)] == [("a", 9), ("b", 3), ("c", 8)]
