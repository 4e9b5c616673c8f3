"""The soft entropy of the codes of one tensor, weight by weight and differentiable by torch: slower, no cells.

Every code gives its count to the bins around it, w_o = K((q+o+½−c)/δ) − K((q+o−½−c)/δ) for offsets |o| <= ⌈δ+½⌉: O(n)
for any width. It is what the counter's cells approximate, and what grids use that have no cells.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from noworse.rate.kernels import KERNELS, Relaxation


@dataclass(frozen=True)
class Relaxed:
    """The relaxed histogram of codes (n,): counts h of all bins, and the bin of each code."""

    counts: Tensor
    bins: Tensor
    density: Tensor  # Σ_j k(b − c_j) at the lower boundary b of each bin, without gradient


def relaxed_counts(codes: Tensor, kernel: str, delta: float) -> Relaxed:
    """The histogram of codes (n,), n >= 1, relaxed by a kernel of half width ``delta`` > 0; differentiable."""
    chosen = KERNELS[kernel]
    q = codes.detach().round()
    reach = math.ceil(delta + 0.5)
    bins = (q - q.min()).long() + reach
    counts = codes.new_zeros(int(bins.max()) + reach + 1)
    density = torch.zeros_like(counts)
    below = chosen.step((q - reach - 0.5 - codes) / delta)
    for offset in range(-reach, reach + 1):
        distance = (q + (offset + 0.5) - codes) / delta
        above = chosen.step(distance)
        counts = counts.index_add(0, bins + offset, above - below)
        if offset < reach:
            density.index_add_(0, bins + offset + 1, chosen.density(distance.detach().abs()).to(density) / delta)
        below = above
    return Relaxed(counts, bins, density)


def soft_entropy(codes: Tensor, relaxation: Relaxation) -> Tensor:
    """R = −Σ h_k log2(h_k/n) in bits, of the relaxed counts h of codes (n,), n >= 1."""
    extent = codes.detach().max() - codes.detach().min()
    counts = relaxed_counts(codes, relaxation.kernel, float(relaxation.width(extent))).counts
    seen = counts[counts > 0]
    return -(seen * (seen / len(codes)).log2()).sum()
