"""Plain text for terminals and pipes: aligned tables and a few number formats."""

from __future__ import annotations

from collections.abc import Sequence

WIDEST = 120  # characters of a cell that are shown, before what no terminal shows is escaped


def table(rows: Sequence[Sequence[str]], header: Sequence[str], align: str, rule_before_last: bool = False) -> str:
    """Columns two spaces apart under a ruled header; ``align`` holds "<" or ">" for each column."""
    cells = [[printable(_shortened(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    rule = "  ".join("-" * width for width in widths)
    lines = [_line(header, widths, align), rule, *(_line(row, widths, align) for row in cells)]
    if rule_before_last and len(rows) > 1:
        lines.insert(-1, rule)
    return "\n".join(lines)


def _line(cells: Sequence[str], widths: Sequence[int], align: str) -> str:
    padded = (f"{cell:{side}{width}}" for cell, width, side in zip(cells, widths, align, strict=True))
    return "  ".join(padded).rstrip()


def _shortened(text: str) -> str:
    """All of a text but the middle of one so long that a table of it would fill the memory: names have up to 4 KB."""
    return text if len(text) <= WIDEST else f"{text[: WIDEST // 2]}...{text[-WIDEST // 2 :]}"


def printable(text: str) -> str:
    """The text with control characters escaped: names come from files, and none may reach the terminal raw."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def bits(amount: float, elements: int) -> str:
    """Bits per element."""
    return f"{amount / elements:.2f}" if elements else "-"


def percent(share: float) -> str:
    """A share in per cent."""
    return f"{100 * share:.1f} %"
