"""The paper's edge-scale transform: a straight line with a dead zone, which prunes and quantises at once."""

from __future__ import annotations

from torch import Tensor

from noworse.papers.l2.transforms.base import Transform, register


@register("deadzone")
class Deadzone(Transform):
    """f(k) = k, with a zero bin whose width is trained."""

    curve, tunes_zone = "linear", True

    def points(self, k: Tensor, shape: Tensor) -> Tensor:
        """f(k) = k."""
        return k

    def inverse(self, x: Tensor, shape: Tensor) -> Tensor:
        """f⁻¹(x) = x."""
        return x
