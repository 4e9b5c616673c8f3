"""How ranks are scored and chosen: methods by the names of presets, and one rank per layer at one price of a parameter.

At equal slopes the candidates of each layer are those on the convex hull of parameters and predicted loss.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from noworse.allocate.search import Bisection
from noworse.propose.ranks.candidates import Candidate
from noworse.propose.ranks.spectrum import FISHER, KRONECKER, PLAIN, SCALED, WHITENED
from noworse.run.named import DEFAULT
from noworse.survey.kronecker import Decomposable

BISECTIONS = 40
Offers = Mapping[str, Sequence[Candidate]]  # by name of the layer
Losses = Callable[[nn.Module], Iterable[Tensor]]  # per-sample losses (B,) of a module, batch by batch
Found = tuple[nn.Module, dict[str, Candidate]]  # a module with layers in factors, and what was chosen for them


@dataclass(frozen=True)
class RankStrategy:
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
    DEFAULT: RankStrategy(KRONECKER, (0.0, 0.1, 1.0, 10.0), True),
    "svd": RankStrategy(PLAIN),
    "fwsvd": RankStrategy(FISHER),
    "asvd": RankStrategy(SCALED),
    "svd-llm": RankStrategy(WHITENED),
    "paper": "noworse.papers.llc.ranks:STRATEGY",
}


def at_price(offers: Offers, sizes: Mapping[str, int], price: float) -> dict[str, Candidate]:
    """Return for every layer the candidate of least loss + price · parameters, where it beats the layer as it is."""

    def cost(candidate: Candidate) -> float:
        return candidate.loss + price * candidate.parameters

    best = {name: min(candidates, key=cost) for name, candidates in offers.items() if candidates}
    return {name: candidate for name, candidate in best.items() if cost(candidate) < price * sizes[name]}


def dropped(chosen: Mapping[str, Candidate], sizes: Mapping[str, int]) -> int:
    """Return the number of parameters saved."""
    return sum(sizes[name] - candidate.parameters for name, candidate in chosen.items())


def at_drop(offers: Offers, sizes: Mapping[str, int], count: float) -> dict[str, Candidate]:
    """Return the choice of least predicted loss that saves at least about ``count`` parameters, or all that can be."""
    line = Bisection(-60.0, 20.0)  # of ln(price)
    for _ in range(BISECTIONS):
        line.at = line.tell(-dropped(at_price(offers, sizes, math.exp(line.at)), sizes), -count)
    return at_price(offers, sizes, math.exp(line.fits))
