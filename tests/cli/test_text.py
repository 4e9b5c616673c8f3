from __future__ import annotations

from noworse.cli.text import printable, table


def test_table_and_printable() -> None:
    text = table([["a", "1"], ["long name", "1,000"], ["sum", "1,001"]], ["name", "bytes"], "<>")
    assert text.splitlines() == [
        "name       bytes", "---------  -----", "a              1", "long name  1,000", "---------  -----",
        "sum        1,001",
    ]  # fmt: skip
    assert printable("é\x1b[0m\n\u202e") == "é\\x1b[0m\\n\\u202e"


def test_one_long_name_does_not_widen_every_row() -> None:
    """2 KB of names that share their beginnings once became a table of 1.6 GB."""
    text = table([[f"{'a' * 4000}{number}", "1"] for number in range(100)], ["name", "bytes"], "<>")
    assert len(text) < 102 * 140
    assert f"{'a' * 60}...{'a' * 58}17      1" in text
