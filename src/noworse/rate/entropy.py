"""Empirical entropy of integer codes."""

from __future__ import annotations

import torch
from torch import Tensor


def entropy_bits(counts: Tensor) -> Tensor:
    """Ideal order-0 code length in bits, n·H, of symbols with these counts (..., K) along the last dimension."""
    counts = counts.double()
    total = counts.sum(-1)
    return torch.xlogy(total, total).sub(torch.xlogy(counts, counts).sum(-1)) / torch.log(torch.tensor(2.0)).double()
