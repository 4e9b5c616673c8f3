from __future__ import annotations

from benchmarks.harness.row import Row
from benchmarks.harness.table import all_rows, markdown


def test_a_table_has_a_head_a_rule_and_its_lines_or_is_nothing() -> None:
    assert markdown(["a", "b"], [["1", "2"]]) == "| a | b |\n|---|---|\n| 1 | 2 |"
    assert markdown(["a", "b"], []) == ""


def test_every_row_says_whether_it_is_met() -> None:
    rows = [Row("a", 1 / 3, "x", ">= 1"), Row("b", 2.0, "x", ">= 1"), Row("c", 2.0, "")]
    assert all_rows(rows).splitlines()[2:] == [
        "| a | 0.333333 | x | >= 1 | **no** |", "| b | 2 | x | >= 1 | yes |", "| c | 2 |  |  |  |",
    ]  # fmt: skip
