"""What holds sizes in tuning: a multiplier of the rate that of the file, steps the floors and caps of chosen tensors.

The entropy of a tensor's codes falls by at most about 1.44 bits per weight when ln s grows by 1. So ln s moves by half
of the bits in excess of the cap, or lacking to the floor, in each iteration: this closes in on the limit from any side.
Bits are those of ideal order-0 codes.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from noworse.model.tensors import matching
from noworse.propose.grids.compensated import REACHABLE
from noworse.propose.grids.grid import GridSet


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


GAIN = 0.5  # of ln s, per bit per weight
LARGEST_MOVE = 0.5  # of ln s in one iteration
BISECTIONS = 16


class BitLimits:
    """Least and most bits per weight (K,) of the tensors of a set; the last pattern that matches a tensor holds."""

    def __init__(self, layer_bits: Mapping[str, tuple[float, float]], grids: GridSet) -> None:
        names = [spec.name for spec in grids.specs]
        self.sizes = torch.tensor(grids.sizes, dtype=torch.float64, device="cpu")
        self.low, self.high = torch.zeros_like(self.sizes), torch.full_like(self.sizes, math.inf)
        for pattern, (low, high) in layer_bits.items():
            for name in matching([pattern], names, "no quantised tensor for layer_bits"):
                k = names.index(name)
                self.low[k], self.high[k] = min(low, REACHABLE * math.log2(grids.sizes[k])), high
        self.active = bool(layer_bits)

    def floor(self, grids: GridSet) -> float:
        """Return the bits that the floors take in all; a tensor that calib does not reach has none."""
        return float((self.low * self.sizes * grids.tuned).sum())

    @torch.no_grad()
    def hold(self, grids: GridSet) -> None:
        """Move the steps of tensors outside their limits, by the bits of the last ``quantise``."""
        if self.active:
            found = grids.bits / self.sizes
            move = (GAIN * (found - found.clamp(self.low, self.high))).clamp(-LARGEST_MOVE, LARGEST_MOVE)
            grids.log_step += (move * grids.tuned).to(grids.log_step)

    @torch.no_grad()
    def bound_steps(self, grids: GridSet, scratch: Tensor) -> None:
        """Tell ``grids`` the finest and coarsest steps within the limits for its present weights."""
        if not self.active:
            return
        kept, meter = grids.log_step.clone(), grids.meter(scratch)
        bounds = []
        for limit in (self.high, self.low):
            fine, coarse = grids.unit.log() - 12, grids.unit.log() + 2
            for _ in range(BISECTIONS):
                middle = 0.5 * (fine + coarse)
                grids.log_step.copy_(middle)
                over = meter() / self.sizes > limit
                fine, coarse = torch.where(over, middle, fine), torch.where(over, coarse, middle)
            bounds.append(coarse.exp())
        grids.finest = torch.where(self.high < math.inf, bounds[0], 0.0)
        grids.coarsest = torch.where(self.low > 0, bounds[1], math.inf).maximum(grids.finest)
        grids.log_step.copy_(kept)
