"""One rank per layer at one price of a parameter: the convex hull of each layer's candidates, cut at equal slopes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from noworse.propose.ranks.candidates import Candidate

BISECTIONS = 40
Offers = Mapping[str, Sequence[Candidate]]  # by name of the layer


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
    low, high = -60.0, 20.0  # of ln(price)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        enough = dropped(at_price(offers, sizes, math.exp(middle)), sizes) >= count
        low, high = (low, middle) if enough else (middle, high)
    return at_price(offers, sizes, math.exp(high))
