"""The paper's logarithmic transform, c = ln(1 + |w|/a)/ln(1 + h): bins widen outwards, as in µ-law companding."""

from __future__ import annotations

import math

from torch import Tensor

from noworse.papers.l2.transforms.base import Transform, register, stored


@register("log")
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
