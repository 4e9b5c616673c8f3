"""How ranks are scored and chosen: ours, and what others do, by the names of presets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from noworse.propose.ranks.candidates import Candidate
from noworse.propose.ranks.spectrum import FISHER, KRONECKER, PLAIN, SCALED, WHITENED
from noworse.run.named import DEFAULT
from noworse.survey.kronecker import Decomposable

Losses = Callable[[nn.Module], Iterable[Tensor]]  # per-sample losses (B,) of a module, batch by batch
Found = tuple[nn.Module, dict[str, Candidate]]  # a module with layers in factors, and what was chosen for them


@dataclass(frozen=True)
class Ranks:
    """A method: how the error of a rank is weighed, and a search of its own in place of ranks at equal slopes.

    Such a search takes the module, its layers by name and their losses with the labels of calib, and stops where it
    likes. Curvature holds near the original; where much is cut, outputs count that hardly mattered there: each of
    ``spreads``, a share of the outputs' mean gradient that is added to each, is tried on the part of calib held back.
    """

    weighting: str
    spreads: tuple[float, ...] = (0.0,)
    refreshes: bool = False  # layers are made anew for what the ones replaced before feed them
    search: Callable[[nn.Module, Mapping[str, Decomposable], Losses], Found] | None = None


PRESETS: dict[str, Any] = {
    DEFAULT: Ranks(KRONECKER, (0.0, 0.1, 1.0, 10.0), True),
    "svd": Ranks(PLAIN),
    "fwsvd": Ranks(FISHER),
    "asvd": Ranks(SCALED),
    "svd-llm": Ranks(WHITENED),
    "paper": "noworse.papers.llc.ranks:STRATEGY",
}
