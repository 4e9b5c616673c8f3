"""Plain text for terminals and pipes: aligned tables and a few number formats."""

from collections.abc import Sequence

WIDEST = 120  # characters of a cell that are shown, before what no terminal shows is escaped


def table(rows: Sequence[Sequence[str]], header: Sequence[str], align: str) -> str:
    """Return columns two spaces apart, rules below the header and above the last row; ``align``: "<" or ">" of each."""
    cells = [[printable(_shortened(cell)) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
    rule = ["-" * width for width in widths]
    lines = [header, rule, *cells[:-1], *([rule] if len(rows) > 1 else []), *cells[-1:]]
    form = "  ".join(f"{{:{side}{width}}}" for side, width in zip(align, widths, strict=True))
    return "\n".join(form.format(*line).rstrip() for line in lines)


def _shortened(text: str) -> str:
    """All of a text but the middle of one so long that a table of it would fill the memory: names have up to 4 KB."""
    return text if len(text) <= WIDEST else f"{text[: WIDEST // 2]}...{text[-WIDEST // 2 :]}"


def printable(text: str) -> str:
    """Return the text with control characters escaped: names come from files, and none may reach the terminal raw."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def bits(amount: float, elements: int) -> str:
    """Return bits per element as text."""
    return f"{amount / elements:.2f}" if elements else "-"


def percent(share: float) -> str:
    """Return a share in per cent as text."""
    return f"{100 * share:.1f} %"
