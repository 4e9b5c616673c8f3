"""L²'s transforms of weights to codes besides its edge-scale and scale ones (propose/grids/transform.py).

None has a dead zone. Codes are those of docs/method.md with h = s/a; a (or the slopes of segments) is trained, and
starts where the official code starts.

Source: Shi et al., L² compression (ICCV 2023), the unified weight transformation.
"""

import math

import torch
from torch import Tensor

from noworse.propose.grids.transform import Transform, stored
from noworse.representation.curves import SEGMENTS


class Log(Transform):
    """Bins that widen outwards, f(k) = ((1 + h)^k − 1)/h; trained: ln(a/max|w|), at first −ln(e − 1)."""

    curve, start = "log", (-math.log(math.e - 1),)

    def shape(self, trained: Tensor, step: Tensor, largest: float) -> Tensor:
        """Return h, how fast the width of bins changes."""
        return stored((step.log() - trained - math.log(largest)).exp())

    def points(self, k: Tensor, shape: Tensor) -> Tensor:
        """Return ((1 + h)^k − 1)/h."""
        return (k * shape[0].log1p()).expm1() / shape[0]

    def inverse(self, x: Tensor, shape: Tensor) -> Tensor:
        """Return ln(1 + h x)/ln(1 + h)."""
        return (shape[0] * x).log1p() / shape[0].log1p()


class Exp(Log):
    """Bins that narrow outwards, f(k) = ln(1 + h k)/h; trained: ln(a/max|w|), at first −ln ln 2."""

    curve, start = "exp", (-math.log(math.log(2)),)

    def points(self, k: Tensor, shape: Tensor) -> Tensor:
        """Return ln(1 + h k)/h."""
        return (shape[0] * k).log1p() / shape[0]

    def inverse(self, x: Tensor, shape: Tensor) -> Tensor:
        """Return (exp(h x) − 1)/h."""
        return (shape[0] * x).clamp(max=60).expm1() / shape[0]


class Multiscale(Transform):
    """Piecewise linear: slopes 1, m₂ .. m₅ on segments h steps wide; trained: ln m_i, at first 0. The last goes on."""

    curve, start = "multiscale", (0.0,) * (SEGMENTS - 1)

    def shape(self, trained: Tensor, step: Tensor, largest: float) -> Tensor:
        """Return the width of a segment in steps, then the slopes."""
        width = math.log(largest / SEGMENTS) - step.log()
        return stored(torch.cat([width.reshape(1), trained]).exp())

    def points(self, k: Tensor, shape: Tensor) -> Tensor:
        """Return the codes of each segment times its slope, added."""
        slopes = [torch.ones_like(shape[0]), *shape[1:]]
        total, begin = torch.zeros_like(k), torch.zeros_like(shape[0])
        for slope in slopes[:-1]:
            width = shape[0] / slope
            total = total + torch.minimum((k - begin).clamp(min=0), width) * slope
            begin = begin + width
        return torch.add(total, (k - begin).clamp(min=0) * slopes[-1])

    def inverse(self, x: Tensor, shape: Tensor) -> Tensor:
        """Return the width of each segment below x divided by its slope, added."""
        slopes = [torch.ones_like(shape[0]), *shape[1:]]
        total = torch.zeros_like(x)
        for i, slope in enumerate(slopes[:-1]):
            total = total + torch.minimum((x - i * shape[0]).clamp(min=0), shape[0]) / slope
        return torch.add(total, (x - (SEGMENTS - 1) * shape[0]).clamp(min=0) / slopes[-1])
