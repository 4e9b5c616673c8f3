from __future__ import annotations

import subprocess
import sys

import pytest

from noworse.errors import BadInput
from noworse.propose.ranks.strategy import Ranks
from noworse.propose.strategies import BITS, RANKS, strategy


def test_every_name_stands_for_a_method() -> None:
    for name in BITS:
        found = strategy(BITS, name, "quantize")
        assert found.levels == tuple(sorted(found.levels))
    assert all(isinstance(strategy(RANKS, name, "decompose"), Ranks) for name in RANKS)
    with pytest.raises(BadInput, match=r"unknown preset 'best' of quantize: expected one of default, paper"):
        strategy(BITS, "best", "quantize")


def test_papers_are_imported_when_they_are_asked_for() -> None:
    code = "import sys, noworse.jobs.quantize, noworse.jobs.decompose; print('noworse.papers.llc' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
