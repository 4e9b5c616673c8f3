"""Every block of docs/extending.md and docs/tasks.md runs; each section is short enough to be read at once."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from noworse.propose.bits import strategy as bits
from noworse.propose.ranks import factoring as ranks
from noworse.representation import KINDS
from noworse.task.distances import DISTANCES
from noworse.tune import seams

DOCS = Path(__file__).parent.parent / "docs"
MOST_LINES = 40
SECTIONS = {
    f"{page}: {title}": (introduction, f"{title}\n{text}")
    for page in ("extending.md", "tasks.md")
    for introduction, *parts in [(DOCS / page).read_text().split("\n## ")]
    for title, _, text in (part.partition("\n") for part in parts)
}


@pytest.fixture(autouse=True)
def same_tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a block adds to the tables of the package is taken out again."""
    tables: list[dict[Any, Any]] = [DISTANCES, KINDS, bits.PRESETS, ranks.PRESETS, *seams.NAMES.values()]
    before = [dict(table) for table in tables]
    yield
    for table, known in zip(tables, before, strict=True):
        table.clear()
        table.update(known)


@pytest.mark.parametrize("title", SECTIONS)
def test_blocks_do_what_they_say(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("block_of_extending")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # "module:object" leads there
    monkeypatch.chdir(tmp_path)
    for text in SECTIONS[title]:
        (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
        exec(compile(code, title, "exec"), module.__dict__)


@pytest.mark.parametrize("title", SECTIONS)
def test_sections_are_short(title: str) -> None:
    assert len(SECTIONS[title][1].strip().splitlines()) <= MOST_LINES
