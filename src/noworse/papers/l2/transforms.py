"""L²'s transforms of weights to codes besides its edge-scale and scale ones (propose/grids/transform.py).

    log          c = ln(1 + |w|/a)/ln(1 + h)       bins widen outwards, as in µ-law companding
    exp          c = (exp(|w|/a) − 1)/h            bins narrow outwards: large weights are finer
    multiscale   five segments of equal width up to max|w|, each with a step of its own

None has a dead zone. h = s/a; a (or the slopes of segments) is trained, and starts where the official code starts.

Source: Shi et al., L² compression (ICCV 2023), the unified weight transformation.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from noworse.propose.grids.transform import Transform, stored
from noworse.representation.curves import SEGMENTS


class Log(Transform):
    """f(k) = ((1 + h)^k − 1)/h with h = s/a; trained: ln(a/max|w|), at first −ln(e − 1)."""

    curve, start = "log", (-math.log(math.e - 1),)

    def shape(self, trained: Tensor, step: Tensor, largest: float) -> Tensor:
        """h, the growth of the bins."""
        return stored((step.log() - trained - math.log(largest)).exp())

    def points(self, k: Tensor, shape: Tensor) -> Tensor:
        """((1 + h)^k − 1)/h."""
        return (k * shape[0].log1p()).expm1() / shape[0]

    def inverse(self, x: Tensor, shape: Tensor) -> Tensor:
        """ln(1 + h x)/ln(1 + h)."""
        return (shape[0] * x).log1p() / shape[0].log1p()


class Exp(Transform):
    """f(k) = ln(1 + h k)/h with h = s/a; trained: ln(a/max|w|), at first −ln ln 2."""

    curve, start = "exp", (-math.log(math.log(2)),)

    def shape(self, trained: Tensor, step: Tensor, largest: float) -> Tensor:
        """h, how fast bins narrow."""
        return stored((step.log() - trained - math.log(largest)).exp())

    def points(self, k: Tensor, shape: Tensor) -> Tensor:
        """ln(1 + h k)/h."""
        return (shape[0] * k).log1p() / shape[0]

    def inverse(self, x: Tensor, shape: Tensor) -> Tensor:
        """(exp(h x) − 1)/h."""
        return (shape[0] * x).clamp(max=60).expm1() / shape[0]


class Multiscale(Transform):
    """Piecewise linear: slopes 1, m₂ .. m₅ on segments h steps wide; trained: ln m_i, at first 0. The last goes on."""

    curve, start = "multiscale", (0.0,) * (SEGMENTS - 1)

    def shape(self, trained: Tensor, step: Tensor, largest: float) -> Tensor:
        """The width of a segment in steps, then the slopes."""
        width = math.log(largest / SEGMENTS) - step.log()
        return stored(torch.cat([width.reshape(1), trained]).exp())

    def points(self, k: Tensor, shape: Tensor) -> Tensor:
        """Codes of each segment times its slope."""
        slopes = [torch.ones_like(shape[0]), *shape[1:]]
        total, begin = torch.zeros_like(k), torch.zeros_like(shape[0])
        for slope in slopes[:-1]:
            width = shape[0] / slope
            total = total + torch.minimum((k - begin).clamp(min=0), width) * slope
            begin = begin + width
        points: Tensor = total + (k - begin).clamp(min=0) * slopes[-1]
        return points

    def inverse(self, x: Tensor, shape: Tensor) -> Tensor:
        """Width of each segment below x divided by its slope."""
        slopes = [torch.ones_like(shape[0]), *shape[1:]]
        total = torch.zeros_like(x)
        for i, slope in enumerate(slopes[:-1]):
            total = total + torch.minimum((x - i * shape[0]).clamp(min=0), shape[0]) / slope
        codes: Tensor = total + (x - (SEGMENTS - 1) * shape[0]).clamp(min=0) / slopes[-1]
        return codes
