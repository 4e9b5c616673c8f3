"""The multiplier of the rate, driven by the size of the file that would be written now."""

from __future__ import annotations

import math


class RateController:
    """λ, which multiplies the rate in bits per weight: integral control of ln λ with a high proportional gain.

    ``start`` is the multiplier at which the initial steps are optimal.
    """

    INTEGRAL, PROPORTIONAL, LIMIT = 0.3, 30.0, 1.0

    def __init__(self, start: float) -> None:
        self.log_multiplier = math.log(max(start, 1e-12))
        self.multiplier = start
        self.error = 0.0  # ln(size/budget) as of the last update, limited

    def update(self, bits: float, budget: float) -> float:
        """Return λ for the next iteration, given the size now and the size wanted now, both in bits."""
        self.error = max(-self.LIMIT, min(self.LIMIT, math.log(bits / budget)))
        self.log_multiplier += self.INTEGRAL * self.error
        self.multiplier = math.exp(min(self.log_multiplier + self.PROPORTIONAL * self.error, 60.0))
        return self.multiplier


def budget_at(progress: float, start: float, end: float, ramp: float) -> float:
    """Return the bits wanted by now: a geometric path from ``start`` to ``end`` in the first ``ramp`` of iterations."""
    return end if progress >= ramp else start * math.exp(math.log(end / start) * progress / ramp)
