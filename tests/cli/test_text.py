from __future__ import annotations

from noworse.cli.text import printable, table


def test_table_and_printable() -> None:
    text = table([["a", "1"], ["long name", "1,000"], ["sum", "1,001"]], ["name", "bytes"], "<>", rule_before_last=True)
    assert text.splitlines() == [
        "name       bytes", "---------  -----", "a              1", "long name  1,000", "---------  -----",
        "sum        1,001",
    ]  # fmt: skip
    assert printable("é\x1b[0m\n\u202e") == "é\\x1b[0m\\n\\u202e"
