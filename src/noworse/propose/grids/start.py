"""Where tuning starts: steps of equal slope for a given number of bits."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from noworse.propose.grids.grid import LARGEST_CODE, GridSet

COARSEST = 2.5  # largest step at the start from nearest rounding, in units of the tensor's root mean square
UNUSED, HARD = 0.5, 1 / 16  # the same, fixed, for tensors that calib never reaches, or that have no gradient
BISECTIONS = 18
TINY = 1e-300  # a scale below all that steps are limited to, as its inverse is above
REACHABLE = 0.85  # of n·log2 n bits, which the empirical entropy of n codes cannot exceed


def equal_slope_steps(
    grids: GridSet, sensitivity: Mapping[str, float], scale: float, coarsest: float = COARSEST
) -> Tensor:
    """Return steps s = scale/√F (K,), between what the file can hold and ``coarsest`` root mean squares of the tensor.

    At high rates the loss ½·F·n·s²/12 then falls by the same amount per bit in every tensor. Limits on the bits of a
    tensor (tune/control.py) come last.
    """
    steps = []
    for k, spec in enumerate(grids.specs):
        most = (coarsest if spec.tuned else HARD if spec.hard else UNUSED) * grids.rms[k]
        wanted = scale / math.sqrt(sensitivity[spec.name]) if spec.tuned else most
        steps.append(min(max(wanted, grids.largest[k] / LARGEST_CODE), most))
    return torch.tensor(steps).clamp(grids.finest, grids.coarsest)


@torch.no_grad()
def start_at(
    grids: GridSet, sensitivity: Mapping[str, float], bits: float, scratch: Tensor, coarsest: float = COARSEST
) -> float:
    """Set equal-slope steps at which codes of tuned tensors take about ``bits`` bits; return the multiplier λ of that.

    λ is in loss units per (bit per weight): the slope of loss against rate is ln 2 · F·s²/12 per bit. Where so many
    bits are given to so few weights that each could have a code of its own, steps stay at 85 % of the most entropy.
    """
    bits = min(bits, REACHABLE * sum(spec.tuned * n * math.log2(n) for n, spec in zip(grids.sizes, grids.specs)))
    low, high = _scales(grids, sensitivity, coarsest)
    for _ in range(BISECTIONS):
        scale = 0.5 * (low + high)
        grids.log_step.copy_(equal_slope_steps(grids, sensitivity, math.exp(scale), coarsest).log())
        grids.quantise(scratch)
        low, high = (scale, high) if float(grids.bits[grids.tuned].sum()) > bits else (low, scale)
    grids.rebase()
    parts = zip(grids.sizes, grids.specs, grids.steps(), strict=True)
    return math.log(2) * sum(n * (sensitivity[spec.name] * float(s) ** 2) for n, spec, s in parts) / 12


def _scales(grids: GridSet, sensitivity: Mapping[str, float], coarsest: float) -> tuple[float, float]:
    """ln of the scales at which all tuned tensors have their finest and their coarsest step, however far apart."""
    roots = [math.sqrt(sensitivity[spec.name]) if spec.tuned else math.nan for spec in grids.specs]
    ends = [
        [float(s) * root for s, root in zip(equal_slope_steps(grids, sensitivity, scale, coarsest), roots) if root > 0]
        for scale in (TINY, 1 / TINY)
    ]
    return math.log(min(ends[0])), math.log(max(ends[1]))
