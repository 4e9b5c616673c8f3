"""Where tuning starts: steps of equal slope for a given number of bits."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from noworse.propose.grids.grid import LARGEST_CODE, GridSet

COARSEST = 2.5  # largest step at the start from nearest rounding, in units of the tensor's root mean square
UNUSED = 0.5  # the same for tensors that the calibration data never reach
BISECTIONS = 18
TINY = 1e-300  # a scale below all that steps are limited to, as its inverse is above
REACHABLE = 0.85  # of n·log2 n bits, which the empirical entropy of n codes cannot exceed


def equal_slope_steps(
    grids: GridSet, sensitivity: Mapping[str, float], scale: float, coarsest: float = COARSEST
) -> Tensor:
    """Steps s = scale/√F (K,), between what the file can hold and ``coarsest`` root mean squares of the tensor.

    At high rates the loss ½·F·n·s²/12 then falls by the same amount per bit in every tensor. Limits on the bits of a
    tensor (tune/limits.py) come last.
    """
    steps = []
    for k, spec in enumerate(grids.specs):
        most = (coarsest if spec.tuned else UNUSED) * grids.rms[k]
        wanted = scale / math.sqrt(sensitivity[spec.name]) if spec.tuned else most
        steps.append(min(max(wanted, grids.largest[k] / LARGEST_CODE), most))
    return torch.tensor(steps).clamp(grids.finest, grids.coarsest)


@torch.no_grad()
def start_at(
    grids: GridSet, sensitivity: Mapping[str, float], bits: float, scratch: Tensor, coarsest: float = COARSEST
) -> float:
    """Set equal-slope steps; returns the multiplier λ of that slope. Codes of tuned tensors take about ``bits`` bits.

    Where so many bits are given to so few weights that each could have a code of its own, empirical entropy says no
    more about steps: they stay at 85 % of the most that it can be.
    λ is in loss units per (bit per weight): the slope of loss against rate is ln 2 · F·s²/12 per bit.
    """
    most = REACHABLE * sum(n * math.log2(n) for n, spec in zip(grids.sizes, grids.specs, strict=True) if spec.tuned)
    low, high = _scales(grids, sensitivity, coarsest)
    for _ in range(BISECTIONS):
        scale = 0.5 * (low + high)
        grids.log_step.copy_(equal_slope_steps(grids, sensitivity, math.exp(scale), coarsest).log())
        grids.quantise(scratch)
        low, high = (scale, high) if float(grids.bits[grids.tuned].sum()) > min(bits, most) else (low, scale)
    grids.rebase()
    slopes = [sensitivity[spec.name] * float(s) ** 2 for spec, s in zip(grids.specs, grids.steps(), strict=True)]
    weighted = sum(n * x for n, x in zip(grids.sizes, slopes, strict=True))
    return math.log(2) * weighted / 12


def _scales(grids: GridSet, sensitivity: Mapping[str, float], coarsest: float) -> tuple[float, float]:
    """ln of the scales at which all tuned tensors have their finest and their coarsest step: all that a search needs.

    However far sensitivities are from 1 or from each other, the scale of any number of bits that steps can reach lies
    between the two.
    """
    fine, coarse = (equal_slope_steps(grids, sensitivity, scale, coarsest) for scale in (TINY, 1 / TINY))
    roots = [math.sqrt(sensitivity[spec.name]) if spec.tuned else math.nan for spec in grids.specs]
    ends = [[float(s) * root for s, root in zip(steps, roots, strict=True) if root > 0] for steps in (fine, coarse)]
    return math.log(min(ends[0])), math.log(max(ends[1]))
