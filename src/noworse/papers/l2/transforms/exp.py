"""The paper's exponential transform, c = (exp(|w|/a) − 1)/h: bins narrow outwards, large weights are finer."""

from __future__ import annotations

import math

from torch import Tensor

from noworse.papers.l2.transforms.base import Transform, register, stored


@register("exp")
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
