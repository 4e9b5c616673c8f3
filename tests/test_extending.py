"""Every block of docs/extending.md runs; each section is short enough to be read at once."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from noworse.format import index, parse
from noworse.propose.bits import strategy as bits
from noworse.propose.ranks import choose as ranks
from noworse.task.distances import DISTANCES
from noworse.tune import seams

PAGE = Path(__file__).parent.parent / "docs" / "extending.md"
MOST_LINES = 40
INTRODUCTION, *PARTS = PAGE.read_text().split("\n## ")
SECTIONS = {part.partition("\n")[0]: part for part in PARTS}


@pytest.fixture(autouse=True)
def same_tables(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a block adds to the tables of the package is taken out again."""
    monkeypatch.setattr(index, "KINDS", index.KINDS)
    monkeypatch.setattr(parse, "KINDS", parse.KINDS)
    tables: list[dict[Any, Any]] = [DISTANCES, parse.BY_NUMBER, bits.PRESETS, ranks.PRESETS, *seams.NAMES.values()]
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
    for text in (INTRODUCTION, SECTIONS[title]):
        (code,) = re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)
        exec(compile(code, f"{PAGE.name}: {title}", "exec"), module.__dict__)


@pytest.mark.parametrize("title", SECTIONS)
def test_sections_are_short(title: str) -> None:
    assert len(SECTIONS[title].strip().splitlines()) <= MOST_LINES
