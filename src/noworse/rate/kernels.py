"""Kernels of the relaxed histogram: smooth steps K(u) on [−1, 1], each by its two halves, and how wide they are.

A count at the signed distance x from a bin boundary lies beyond it by K(−x/δ). With u = |x|/δ, ``share(u)`` = K(−u) is
what lies on the far side, at most one half, and ``density(u)`` = dK/du how fast that falls.

Source: Shi et al., L² compression (ICCV 2023), the differentiable counter; its other kernels are in papers/l2.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from noworse.errors import BadInput

LARGEST_DELTA = 0.5  # code units: beyond, a fixed width blurs more than neighbours


@dataclass(frozen=True)
class Kernel(ABC):
    """A kernel of half width ``delta`` in code units; BadInput where that is not in (0, 0.5].

    A new one defines ``share`` and ``density`` for u >= 0 of any shape, both as at u = 1 (no share, no density) beyond.
    """

    delta: float = 0.25

    def __post_init__(self) -> None:
        if not 0 < self.delta <= LARGEST_DELTA:
            raise BadInput(f"a kernel of half width delta = {self.delta!r}: expected above 0, at most {LARGEST_DELTA}")

    @abstractmethod
    def share(self, u: Tensor) -> Tensor:
        """Return K(−u)."""

    @abstractmethod
    def density(self, u: Tensor) -> Tensor:
        """Return dK/du at u, which is the same at −u."""

    def step(self, x: Tensor) -> Tensor:
        """Return K(x): 0 below −1, 1 above 1."""
        share = self.share(x.abs())
        return torch.where(x < 0, share, 1 - share)

    def width(self, extents: Callable[[], Tensor]) -> Tensor | float:
        """Return δ in code units, of all tensors or of each (K,), whose codes span ``extents()`` (K,)."""
        return self.delta


class Cosine(Kernel):
    """The raised cosine, L²'s "cos": share ½ − ½ sin(πu/2)."""

    def share(self, u: Tensor) -> Tensor:
        """Return ½ − ½ sin(πu/2)."""
        return 0.5 - 0.5 * torch.sin((u * (math.pi / 2)).clamp(max=math.pi / 2))

    def density(self, u: Tensor) -> Tensor:
        """Return (π/4) cos(πu/2)."""
        return torch.cos((u * (math.pi / 2)).clamp(max=math.pi / 2)) * (math.pi / 4)
