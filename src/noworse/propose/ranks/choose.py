"""One rank per layer at one price of a parameter: the convex hull of each layer's candidates, cut at equal slopes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from noworse.propose.ranks.candidates import Candidate

BISECTIONS = 40


def at_price(offers: Mapping[str, Sequence[Candidate]], sizes: Mapping[str, int], price: float) -> dict[str, Candidate]:
    """For every layer the candidate of least loss + price · parameters; layers that stay as they are are left out."""
    chosen = {}
    for name, candidates in offers.items():
        best, least = None, price * sizes[name]
        for candidate in candidates:
            cost = candidate.loss + price * candidate.parameters
            if cost < least:
                best, least = candidate, cost
        if best is not None:
            chosen[name] = best
    return chosen


def dropped(chosen: Mapping[str, Candidate], sizes: Mapping[str, int]) -> int:
    """Parameters saved."""
    return sum(sizes[name] - candidate.parameters for name, candidate in chosen.items())


def at_drop(offers: Mapping[str, Sequence[Candidate]], sizes: Mapping[str, int], count: float) -> dict[str, Candidate]:
    """The choice of least predicted loss that saves at least about ``count`` parameters, or as many as possible."""
    low, high = -60.0, 20.0  # of ln(price)
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        enough = dropped(at_price(offers, sizes, math.exp(middle)), sizes) >= count
        low, high = (low, middle) if enough else (middle, high)
    return at_price(offers, sizes, math.exp(high))
