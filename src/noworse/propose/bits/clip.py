"""Where a uniform quantiser of activations clips: at the largest values, or in the range of least squared error."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from noworse.errors import BadInput
from noworse.propose.bits.sites import Values

SHRINKS = 40  # ranges that are tried for the least squared error

Clip = Callable[[Tensor, int, float, float], tuple[float, float]]  # of a sample (n,), bits, lowest and highest value


def limits(seen: Values, bits: int, clip: Clip) -> tuple[float, float]:
    """Return the range (lowest ≤ 0 ≤ highest) that ``bits`` bits are to cover; BadInput for values without a range."""
    if not (math.isfinite(seen.low) and math.isfinite(seen.high)):
        raise BadInput(f"values from {seen.low} to {seen.high} have no range: expected finite ones")
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    return (low, high) if low == high else clip(seen.sample.double(), bits, low, high)


def covering(flat: Tensor, bits: int, low: float, high: float) -> tuple[float, float]:
    """Return the range of all values: nothing is clipped."""
    return low, high


def least_squares(flat: Tensor, bits: int, low: float, high: float) -> tuple[float, float]:
    """Return the share of all values' range in which rounding errs least."""
    errors = []
    for k in range(SHRINKS):
        share = 1 - 0.02 * k
        step = share * (high - low) / (2**bits - 1)
        zero = round(-share * low / step)
        codes = (flat / step).round().clamp(-zero, 2**bits - 1 - zero)
        errors.append((float((codes * step - flat).square().mean()), -share))
    share = -min(errors)[1]
    return share * low, share * high


CLIPS: dict[str, Clip] = {"mse": least_squares, "max": covering}
