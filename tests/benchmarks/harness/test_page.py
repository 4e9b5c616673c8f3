from __future__ import annotations

import pytest

from benchmarks.harness import page
from benchmarks.harness.page import END, filled, longest, marks
from benchmarks.harness.row import Row, Rows

MARK = "<!-- {}, written by python -m benchmarks.publish -->"


@pytest.fixture(autouse=True)
def stored(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every benchmark has stored a row of its own name."""
    monkeypatch.setattr(page, "stored", lambda name: [Row(name, 1.0, "")])


def names(rows: Rows) -> str:
    return "\n".join(["| name |", "|---|", *(f"| {row.name} |" for row in rows)])


def test_what_stands_between_marks_is_made_anew_and_all_else_stays() -> None:
    text = f"a\n{MARK.format('l2: models')}\nold\nolder\n{END}\nb\n{MARK.format('fast')}\n{END}\nc\n"
    assert marks(text) == ["l2: models", "fast"]
    first = f"{MARK.format('l2: models')}\n| name |\n|---|\n| l2 |\n{END}"
    second = f"{MARK.format('fast')}\nnothing\n{END}"
    expected = f"a\n{first}\nb\n{second}\nc\n"
    tables = {"l2: models": names, "fast": lambda rows: "nothing"}
    assert filled(text, tables) == expected
    assert filled(expected, tables) == expected


def test_a_mark_that_names_no_table_and_a_table_that_is_too_long_are_errors() -> None:
    text = f"{MARK.format('l2')}\n{END}"
    with pytest.raises(KeyError, match="l2"):
        filled(text, {})
    with pytest.raises(ValueError, match="table l2 has 41 lines, expected at most 40"):
        filled(text, {"l2": lambda rows: names([*rows] * 41)})
    assert "| l2 |" in filled(text, {"l2": lambda rows: names([*rows] * 40)})


def test_the_longest_table_counts_without_its_head() -> None:
    assert longest("no table") == 0
    assert longest("| a |\n|---|\n| 1 |\n\ntext | with a bar\n\n| a |\n|---|\n| 1 |\n| 2 |\n") == 2
