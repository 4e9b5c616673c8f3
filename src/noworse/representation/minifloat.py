"""The positive numbers of a file: the upper 16 of the 31 bits of a float32 behind its sign (8 exponent, 8 mantissa).

Consecutive ones are about 1/256 of an octave apart, so that sums of their bits are products of their values, nearly.
"""

from __future__ import annotations

import math

import numpy as np

from noworse.errors import BadInput

MAX_STEP = (0xFF << 8) - 1  # the largest finite minifloat


def unpack_step(step: int) -> float:
    """The step size that a minifloat of 16 bits stands for."""
    return float(np.uint32(step << 15).view(np.float32))


def pack_step(step: float) -> int:
    """The minifloat nearest to a positive, finite step size (the smallest one for less); BadInput otherwise."""
    if not (math.isfinite(step) and step > 0 and step <= unpack_step(MAX_STEP)):
        raise BadInput(f"a step size of {step}, expected a positive number up to {unpack_step(MAX_STEP):.4g}")
    below = int(np.float32(step).view(np.uint32)) >> 15
    candidates = range(max(below - 1, 1), min(below + 1, MAX_STEP) + 1)
    return min(candidates, key=lambda bits: abs(unpack_step(bits) - step))
