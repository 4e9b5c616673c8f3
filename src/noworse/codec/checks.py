"""What every coder expects of the codes it is given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from noworse.codec import _native
from noworse.errors import BadInput

MAX_CODE = 1 << 30


def checked(codes: NDArray[np.int32]) -> tuple[NDArray[np.int32], int, int]:
    """Codes (n,) int32 in one piece of memory, the smallest and the largest; BadInput for what cannot be coded."""
    if codes.ndim != 1 or codes.dtype != np.int32:
        raise BadInput(f"codes have dtype {codes.dtype} and shape {codes.shape}, expected int32 and one dimension")
    codes = np.ascontiguousarray(codes)
    low, high = _native.bounds(codes)
    if low < -MAX_CODE or high > MAX_CODE:
        raise BadInput(f"codes range over {low} .. {high}, expected at most 2**30 in size")
    return codes, low, high
