"""The methods to find bits and ranks, by the names of presets: where each stands, imported when it is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any

from noworse.errors import BadInput

DEFAULT = "default"
BITS = {DEFAULT: "noworse.propose.bits.strategy:STRATEGY", "paper": "noworse.papers.llc.bits:STRATEGY"}
RANKS = {
    DEFAULT: "noworse.propose.ranks.strategy:STRATEGY",
    "svd": "noworse.propose.ranks.strategy:SVD",
    "fwsvd": "noworse.propose.ranks.strategy:FWSVD",
    "asvd": "noworse.propose.ranks.strategy:ASVD",
    "svd-llm": "noworse.propose.ranks.strategy:SVD_LLM",
    "paper": "noworse.papers.llc.ranks:STRATEGY",
}


def strategy(table: Mapping[str, str], preset: str, verb: str) -> Any:
    """The object of a preset of ``verb``, from a table of "module:object"; BadInput for a name that is not there."""
    if preset not in table:
        raise BadInput(f"unknown preset {preset!r} of {verb}: expected one of {', '.join(table)}")
    module, _, name = table[preset].partition(":")
    return getattr(import_module(module), name)
