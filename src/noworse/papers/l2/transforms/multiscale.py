"""The paper's multiscale transform: five segments of equal width up to max|w|, each with a step of its own."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from noworse.papers.l2.transforms.base import Transform, register, stored
from noworse.representation.curves import SEGMENTS


@register("multiscale")
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
