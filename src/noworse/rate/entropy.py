"""Empirical entropy of integer codes."""

from __future__ import annotations

import math

import torch
from torch import Tensor

DENSE = 1 << 16  # codes of a smaller range are counted without sorting


def segment_entropy(counts: Tensor, owner: Tensor) -> Tensor:
    """Return the ideal order-0 code lengths n·H in bits (K,), float64, of K sources, from ``counts`` of symbols (M,).

    ``owner`` (M,) int64, the source of each symbol, is sorted and names every source at least once.
    """
    zeros = torch.zeros(int(owner[-1]) + 1, dtype=torch.float64)
    totals = zeros.index_add(0, owner, counts.double())
    parts = zeros.index_add(0, owner, torch.xlogy(counts.double(), counts.double()))
    return (torch.xlogy(totals, totals) - parts).clamp_(min=0) / math.log(2)


def code_bits(codes: Tensor) -> float:
    """Return the ideal order-0 code length n·H in bits of whole numbers of any shape and dtype."""
    low, high = codes.min(), codes.max()
    few = float(high) - float(low) < DENSE
    counts = (
        torch.bincount((codes.flatten().double() - low).long()) if few else torch.unique(codes, return_counts=True)[1]
    )
    return float(segment_entropy(counts, torch.zeros(len(counts), dtype=torch.long)))
