"""Kernels of the relaxed histogram, and rates: what a tensor's codes cost in bits, differentiable by torch.

Kernels are smooth steps K(u) on [−1, 1], each given by its two halves. A count at the signed distance x from a bin
boundary lies beyond it by K(−x/δ). With u = |x|/δ, ``share(u)`` = K(−u) is what lies on the far side, at most one half,
and ``density(u)`` = dK/du how fast that falls. Every code c, in the bin q, gives its count to the bins around it:
K((q+o+½−c)/δ) − K((q+o−½−c)/δ) for |o| <= ⌈δ+½⌉. The counter's cells (counter.py) approximate this faster.

Source: Shi et al., L² compression (ICCV 2023), the differentiable counter; its other kernels are in papers/l2.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

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


@dataclass(frozen=True)
class Rate(ABC):
    """An estimate of the bits of a tensor's codes, whose gradient tuning follows.

    ``on_weights`` says whether it also pulls on the weights, not only on steps and zones. ``counted``: whether its
    gradient is that of the counter's cells, which fast grids have; others are differentiated by torch.
    """

    on_weights: bool = False
    counted: ClassVar[bool] = False

    @abstractmethod
    def bits(self, codes: Tensor, kernel: Kernel) -> Tensor:
        """Return the bits of codes (n,), n >= 1: one number, differentiable by them."""


class SoftEntropy(Rate):
    """The entropy of the relaxed histogram, R = −Σ h_k log2(h_k/n) of relaxed counts h."""

    counted = True

    def bits(self, codes: Tensor, kernel: Kernel) -> Tensor:
        """Return R in bits of codes (n,), n >= 1."""
        delta = float(kernel.width(lambda: codes.detach().max() - codes.detach().min()))
        counts = relaxed_counts(codes, kernel, delta).counts
        seen = counts[counts > 0]
        return -(seen * (seen / len(codes)).log2()).sum()


class Relaxed(NamedTuple):
    """The relaxed histogram of codes (n,)."""

    counts: Tensor  # h of all bins
    bins: Tensor  # (n,) the bin of each code
    density: Tensor  # Σ_j k(b − c_j) at the lower boundary b of each bin, without gradient


def relaxed_counts(codes: Tensor, kernel: Kernel, delta: float) -> Relaxed:
    """Return the histogram of codes (n,), n >= 1, relaxed by a kernel of half width ``delta`` > 0; differentiable."""
    q = codes.detach().round()
    reach = math.ceil(delta + 0.5)
    bins = (q - q.min()).long() + reach
    counts = codes.new_zeros(int(bins.max()) + reach + 1)
    density = torch.zeros_like(counts)
    below = kernel.step((q - reach - 0.5 - codes) / delta)
    for offset in range(-reach, reach + 1):
        distance = (q + (offset + 0.5) - codes) / delta
        above = kernel.step(distance)
        counts = counts.index_add(0, bins + offset, above - below)
        if offset < reach:
            density.index_add_(0, bins + offset + 1, kernel.density(distance.detach().abs()).to(density) / delta)
        below = above
    return Relaxed(counts, bins, density)
