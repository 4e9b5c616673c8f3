"""Empirical entropy of integer codes."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def segment_entropy(counts: Tensor, owner: Tensor) -> Tensor:
    """Ideal order-0 code lengths in bits, n·H, of K sources (K,): ``counts`` (M,) of symbols, each source's ``owner``.

    ``owner`` (M,) int64 is sorted and names every source at least once.
    """
    sources = int(owner[-1]) + 1
    zeros = torch.zeros(sources, dtype=torch.float64)
    totals = zeros.index_add(0, owner, counts.double())
    parts = zeros.index_add(0, owner, torch.xlogy(counts.double(), counts.double()))
    return (torch.xlogy(totals, totals) - parts).clamp_(min=0) / math.log(2)


def code_bits(codes: Tensor) -> float:
    """Ideal order-0 code length in bits, n·H, of integer codes of any shape."""
    counts = torch.bincount(codes.flatten().long() - int(codes.min()))
    return float(segment_entropy(counts, torch.zeros(len(counts), dtype=torch.long)))
