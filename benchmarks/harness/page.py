"""Pages that hold tables between two marks, ``<!-- l2: models, written by ... -->`` and ``<!-- end -->``.

What a mark says is the name of a table; its first word, before a colon, is that of the benchmark whose rows it shows.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from benchmarks.harness.row import Rows, stored

ROOT = Path(__file__).parent.parent.parent
MOST = 40  # lines of a table
END = "<!-- end -->"
_PART = re.compile(r"(<!-- ([^\n]+), written by python -m benchmarks\.publish -->\n).*?" + END, re.DOTALL)
Tables = Mapping[str, Callable[[Rows], str]]  # by what their marks say: from stored rows to Markdown


def filled(text: str, tables: Tables) -> str:
    """A page with every table made anew; KeyError where a mark names none, ValueError where one is too long."""

    def table(part: re.Match[str]) -> str:
        content = tables[part[2]](stored(part[2].partition(":")[0]))
        if longest(content) > MOST:
            raise ValueError(f"table {part[2]} has {longest(content)} lines, expected at most {MOST}")
        return f"{part[1]}{content}\n{END}"

    return _PART.sub(table, text)


def marks(text: str) -> list[str]:
    """What the marks of a page say."""
    return [name for _, name in _PART.findall(text)]


def longest(text: str) -> int:
    """The number of lines of the longest table in a text, head and rule left out."""
    tables = re.findall(r"(?:^\|[^\n]*\n?)+", text, re.MULTILINE)
    return max((len(table.strip().splitlines()) - 2 for table in tables), default=0)


def pages() -> list[Path]:
    """README.md and what docs/ holds."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
