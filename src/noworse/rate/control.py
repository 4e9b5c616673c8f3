"""The rate controller: a Lagrange multiplier driven by the size of the file that would be written now."""

from __future__ import annotations

import math


class RateController:
    """Integral control of ln λ with a high proportional gain on ln(size/budget).

    λ multiplies the rate in bits per weight; ``start`` is the multiplier at which the initial steps are optimal.
    """

    INTEGRAL, PROPORTIONAL, LIMIT = 0.3, 30.0, 1.0

    def __init__(self, start: float) -> None:
        self.log_multiplier = math.log(max(start, 1e-12))
        self.multiplier = start
        self.error = 0.0  # ln(size/budget) as of the last update, limited

    def update(self, bits: float, budget: float) -> float:
        """The multiplier for the next iteration, given the size now and the size wanted now, both in bits."""
        self.error = max(-self.LIMIT, min(self.LIMIT, math.log(bits / budget)))
        self.log_multiplier += self.INTEGRAL * self.error
        self.multiplier = math.exp(min(self.log_multiplier + self.PROPORTIONAL * self.error, 60.0))
        return self.multiplier


def budget_at(progress: float, start: float, end: float, ramp: float) -> float:
    """Geometric path of the budget in bits from ``start`` to ``end`` over the first ``ramp`` of the iterations."""
    if progress >= ramp:
        return end
    return start * math.exp(math.log(end / start) * progress / ramp)
