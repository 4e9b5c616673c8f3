"""Rates: what a tensor's codes cost in bits, differentiable by torch, weight by weight; and the standard one.

Every code c, in the bin q, gives its count to the bins around it, K((q+o+½−c)/δ) − K((q+o−½−c)/δ) for |o| <= ⌈δ+½⌉.
The counter's cells (counter.py) approximate this faster.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from noworse.rate.kernels import Kernel


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
