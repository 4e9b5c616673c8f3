"""Where ACIQ clips values that are taken to follow Laplace's distribution, as LLC's scales are found.

A quantiser of b bits on [−α, α] errs by the tail that it clips and by α²/(3·4ᵇ), a twelfth of its squared step. For a
mean |x| of 1 the least sum of both is where α eᵅ = 3·4ᵇ. One-sided values (those behind a ReLU) have twice as many
levels for the same step: α of b bits is that of b + 1. Source: Banner et al., ACIQ (NeurIPS 2019), used by LLC (2024).
"""

from __future__ import annotations

import torch
from scipy.special import lambertw
from torch import Tensor


def laplace(bits: int, one_sided: bool = False) -> float:
    """Return the best α in mean absolute deviations of a Laplace distribution."""
    return float(lambertw(3 * 4.0 ** (bits + one_sided)).real)


def aciq_range(flat: Tensor, bits: int, low: float, high: float) -> tuple[float, float]:
    """Return the range of activations (n,) within their extremes ``low`` ≤ 0 ≤ ``high``."""
    one_sided = low == 0 or high == 0
    center = 0.0 if one_sided else float(flat.mean())
    # half of a symmetric distribution became 0: its mean magnitude is half of what it was
    reach = laplace(bits, one_sided) * (1 + one_sided) * float((flat - center).abs().mean())
    return max(low, min(center - reach, 0.0)), min(high, max(center + reach, 0.0))


def reach(rows: Tensor, bits: int) -> Tensor:
    """Return the largest magnitudes (R,) that codes of weights (R, I) stand for, no more than there are."""
    return torch.minimum(rows.abs().amax(1), laplace(bits) * rows.abs().mean(1))
