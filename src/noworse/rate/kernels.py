"""Kernels of the relaxed histogram: smooth steps K(u) on [−1, 1], each by its two halves.

A count at the signed distance x from a bin boundary lies beyond it by K(−x/δ). With u = |x|/δ, ``share(u)`` = K(−u) is
what lies on the far side, at most one half, and ``density(u)`` = dK/du how fast that falls.

| kernel | share | density |
|---|---|---|
| cos | ½ − ½ sin(πu/2) | (π/4) cos(πu/2) |
| linear | ½(1 − u) | ½ |
| triangle | ½(1 − u)² | 1 − u |

Source: Shi et al., L² compression (ICCV 2023), the differentiable counter.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from noworse.errors import BadInput

LARGEST_DELTA = 0.5  # code units: beyond, a fixed width blurs more than neighbours
RESOLUTIONS = (16, 4096)


@dataclass(frozen=True)
class Kernel:
    """Two functions of u >= 0, of any shape; both are that of u = 1 (no share, no density) beyond it."""

    share: Callable[[Tensor], Tensor]
    density: Callable[[Tensor], Tensor]

    def step(self, x: Tensor) -> Tensor:
        """K(x): 0 below −1, 1 above 1."""
        share = self.share(x.abs())
        return torch.where(x < 0, share, 1 - share)


def _cos_share(u: Tensor) -> Tensor:
    return 0.5 - 0.5 * torch.sin((u * (math.pi / 2)).clamp(max=math.pi / 2))


def _cos_density(u: Tensor) -> Tensor:
    return torch.cos((u * (math.pi / 2)).clamp(max=math.pi / 2)) * (math.pi / 4)


KERNELS = {
    "cos": Kernel(_cos_share, _cos_density),
    "linear": Kernel(lambda u: 0.5 - 0.5 * u.clamp(max=1), lambda u: 0.5 * (u < 1)),
    "triangle": Kernel(lambda u: 0.5 * (1 - u.clamp(max=1)).square(), lambda u: 1 - u.clamp(max=1)),
}


@dataclass(frozen=True)
class Relaxation:
    """A kernel and its half width: ``delta`` code units, or (``resolution`` > 0) a tensor's range / resolution.

    BadInput for an unknown kernel, and for widths out of range.
    """

    kernel: str = "cos"
    delta: float = 0.25
    resolution: int = 0

    def __post_init__(self) -> None:
        if self.kernel not in KERNELS:
            raise BadInput(f"unknown kernel {self.kernel!r}: expected one of {', '.join(KERNELS)}")
        if not 0 < self.delta <= LARGEST_DELTA:
            raise BadInput(f"a kernel of half width delta = {self.delta!r}: expected above 0, at most {LARGEST_DELTA}")
        low, high = RESOLUTIONS
        if self.resolution and not low <= self.resolution <= high:
            raise BadInput(f"a resolution of {self.resolution!r}: expected 0 (none) or {low} to {high}")

    def width(self, extent: Tensor) -> Tensor:
        """δ in code units for codes that extend over ``extent`` = max − min (any shape)."""
        if not self.resolution:
            return torch.full_like(extent, self.delta)
        return (extent / self.resolution).clamp(min=1e-3)
