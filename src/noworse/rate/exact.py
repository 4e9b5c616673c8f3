"""The soft entropy of the codes of one tensor, weight by weight and differentiable by torch: slower, no cells.

Every code gives its count to the bins around it, w_o = K((q+o+½−c)/δ) − K((q+o−½−c)/δ) for offsets |o| <= ⌈δ+½⌉: O(n)
for any width. It is what the counter's cells approximate, and what grids use that have no cells.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from noworse.rate.kernels import KERNELS, Relaxation


def soft_entropy(codes: Tensor, relaxation: Relaxation) -> Tensor:
    """R = −Σ h_k log2(h_k/n) in bits, of the relaxed counts h of codes (n,), n >= 1."""
    step = KERNELS[relaxation.kernel].step
    with torch.no_grad():
        delta = float(relaxation.width(codes.max() - codes.min()))
        q = codes.round()
        reach = math.ceil(delta + 0.5)
        bins = (q - q.min()).long() + reach
        size = int(bins.max()) + reach + 1
    soft = codes.new_zeros(size)
    below = step((q - reach - 0.5 - codes) / delta)
    for offset in range(-reach, reach + 1):
        above = step((q + offset + 0.5 - codes) / delta)
        soft = soft.index_add(0, bins + offset, above - below)
        below = above
    seen = soft[soft > 0]
    return -(seen * (seen / len(codes)).log2()).sum()
