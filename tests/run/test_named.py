from __future__ import annotations

import subprocess
import sys
from collections import OrderedDict
from typing import Any

import pytest

from noworse.errors import BadInput
from noworse.propose.bits import strategy as bits
from noworse.propose.ranks import factoring as ranks
from noworse.run.named import named

TABLE: dict[str, Any] = {"mine": 3, "theirs": "math:inf", "gone": "no.such:thing", "empty": "math:nothing"}


def test_a_name_stands_for_an_object_or_for_a_place() -> None:
    assert named("number", TABLE, "mine") == 3
    assert named("number", TABLE, "theirs") == float("inf")
    assert named("mapping", {}, "collections:OrderedDict", type) is OrderedDict


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("yours", "unknown number 'yours': expected one of mine, theirs, gone, empty, or 'package.module:object'"),
        ("gone", "number 'gone' cannot be imported .ModuleNotFoundError"),
        ("empty", "number 'empty' cannot be imported .AttributeError"),
        ("theirs", "number 'theirs' is inf: expected an object of builtins:int"),
    ],
)
def test_what_cannot_be_is_refused(name: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        named("number", TABLE, name, int)


def test_every_preset_stands_for_a_method() -> None:
    for name in bits.PRESETS:
        found: bits.BitStrategy = named("preset", bits.PRESETS, name, bits.BitStrategy)
        assert found.levels == tuple(sorted(found.levels))
    assert all(named("preset", ranks.PRESETS, name, ranks.RankStrategy) for name in ranks.PRESETS)


def test_papers_are_imported_when_they_are_asked_for() -> None:
    code = "import sys, noworse.jobs.quantize, noworse.jobs.decompose; print('noworse.papers.llc' in sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "False"
