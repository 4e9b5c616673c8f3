"""Where a uniform quantiser clips: the largest value, or the range of least squared error.

A quantiser of b bits on [−α, α] errs by the tail that it clips and by α²/(3·4ᵇ), a twelfth of its squared step. ACIQ
knows the tail of a distribution: with Q(α) = ½ erfc(α/√2) and φ its density,

    Gaussian of deviation σ = 1:   α Q(α) − φ(α) + α/(6·4ᵇ) = 0        Laplace of mean |x| = 1:   α eᵅ = 3·4ᵇ

One-sided values (those behind a ReLU) have twice as many levels for the same step: α of b bits is that of b + 1.
Source: Banner et al., ACIQ (NeurIPS 2019), used by LLC (2024).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

from noworse.errors import BadInput

CLIPS = ("max", "mse", "gaussian", "laplace")
SHRINKS = 40  # ranges that are tried for the least squared error
BISECTIONS = 60


@functools.cache
def gaussian(bits: int, one_sided: bool = False) -> float:
    """The best α in deviations of a Gaussian (of one whose negative half became 0, if ``one_sided``)."""
    noise = 1 / (6 * 4.0 ** (bits + one_sided))

    def slope(a: float) -> float:
        tail = 0.5 * math.erfc(a / math.sqrt(2))
        return a * tail - math.exp(-a * a / 2) / math.sqrt(2 * math.pi) + a * noise

    return _root(slope)


@functools.cache
def laplace(bits: int, one_sided: bool = False) -> float:
    """The best α in mean absolute deviations of a Laplace distribution."""
    wanted = math.log(3) + (bits + one_sided) * math.log(4)
    return _root(lambda a: a + math.log(a) - wanted)


def _root(rising: Callable[[float], float]) -> float:
    low, high = 1e-9, 64.0
    for _ in range(BISECTIONS):
        middle = 0.5 * (low + high)
        low, high = (low, middle) if rising(middle) > 0 else (middle, high)
    return 0.5 * (low + high)


def limits(values: Tensor, bits: int, clip: str, extremes: tuple[float, float] | None = None) -> tuple[float, float]:
    """The range (lowest ≤ 0 ≤ highest) that ``bits`` bits are to cover, for a sample of the values (any shape).

    ``clip`` is "max", "mse", "gaussian" or "laplace"; ``extremes`` are the least and largest of all values, if more
    are known than the sample. BadInput for values that are not finite.
    """
    if clip not in CLIPS:
        raise BadInput(f"unknown clipping {clip!r}: expected one of {', '.join(CLIPS)}")
    flat = values.detach().double().flatten()
    low, high = extremes or (float(flat.min()), float(flat.max()))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise BadInput(f"values from {low} to {high} have no range: expected finite ones")
    low, high = min(low, 0.0), max(high, 0.0)
    if clip == "max" or low == high:
        return low, high
    if clip == "mse":
        return _least_squares(flat, bits, low, high)
    one_sided = low == 0 or high == 0
    center = 0.0 if one_sided else float(flat.mean())
    if clip == "gaussian":
        # half of a symmetric distribution became 0: its square is half of what it was, its magnitude too
        reach = gaussian(bits, one_sided) * math.sqrt((1 + one_sided) * float((flat - center).square().mean()))
    else:
        reach = laplace(bits, one_sided) * (1 + one_sided) * float((flat - center).abs().mean())
    return max(low, min(center - reach, 0.0)), min(high, max(center + reach, 0.0))


def _least_squares(flat: Tensor, bits: int, low: float, high: float) -> tuple[float, float]:
    errors = []
    for k in range(SHRINKS):
        share = 1 - 0.02 * k
        step = share * (high - low) / (2**bits - 1)
        zero = round(-share * low / step)
        codes = (flat / step).round().clamp(-zero, 2**bits - 1 - zero)
        errors.append((float((codes * step - flat).square().mean()), -share))
    share = -min(errors)[1]
    return share * low, share * high


def symmetric(rows: Tensor, bits: int, clip: str) -> Tensor:
    """Steps (R,) of codes −(2ᵇ⁻¹ − 1) … 2ᵇ⁻¹ − 1 for weights (R, I), each row clipped on its own by "max", "gaussian"
    or "laplace"; the range of least error is chosen where steps are stored (rounding.py).
    """
    reach: Tensor = rows.abs().amax(1)
    if clip == "gaussian":
        reach = torch.minimum(reach, gaussian(bits) * rows.square().mean(1).sqrt())
    elif clip == "laplace":
        reach = torch.minimum(reach, laplace(bits) * rows.abs().mean(1))
    elif clip != "max":
        raise BadInput(f"clipping {clip!r} of weights: expected one of max, gaussian, laplace")
    return reach.div(2 ** (bits - 1) - 1)
