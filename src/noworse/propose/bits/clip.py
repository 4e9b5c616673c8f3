"""Where a uniform quantiser of activations clips: at the largest values, or in the range of least squared error."""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from noworse.errors import BadInput

SHRINKS = 40  # ranges that are tried for the least squared error

Clip = Callable[[Tensor, int, float, float], tuple[float, float]]  # of a sample (n,), bits, lowest and highest value


def limits(
    values: Tensor, bits: int, clip: Clip, extremes: tuple[float, float] | None = None
) -> tuple[float, float]:
    """The range (lowest ≤ 0 ≤ highest) that ``bits`` bits are to cover, for a sample of the values (any shape).

    ``extremes`` are the least and largest of all values, if more are known than the sample. BadInput for values that
    are not finite.
    """
    flat = values.detach().double().flatten()
    low, high = extremes or (float(flat.min()), float(flat.max()))
    if not (math.isfinite(low) and math.isfinite(high)):
        raise BadInput(f"values from {low} to {high} have no range: expected finite ones")
    low, high = min(low, 0.0), max(high, 0.0)
    return (low, high) if low == high else clip(flat, bits, low, high)


def covering(flat: Tensor, bits: int, low: float, high: float) -> tuple[float, float]:
    """All values: nothing is clipped."""
    return low, high


def least_squares(flat: Tensor, bits: int, low: float, high: float) -> tuple[float, float]:
    """The share of all values' range in which rounding errs least."""
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
