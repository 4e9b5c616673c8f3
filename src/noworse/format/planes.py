"""Lossless data as byte planes, so that an entropy coder meets like bytes together.

The elements of a floating type are rotated left by one bit first: the sign moves to the lowest mantissa bit and the
exponent fills the highest byte alone (float32, bfloat16) or begins in it. Trained weights use few exponents, so that
plane shrinks; the others hold mantissa bits, which are noise. Plane 0 holds the lowest byte of every element.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from noworse.representation import find_dtype


def split(data: bytes, dtype: str) -> list[NDArray[np.uint8]]:
    """The byte planes of little-endian elements, lowest byte first; one plane per byte of an element."""
    kind, width = find_dtype(dtype).kind, find_dtype(dtype).itemsize
    source: bytes | NDArray[np.unsignedinteger] = data
    if kind == "float":
        bits = np.frombuffer(data, f"<u{width}")
        source = (bits << bits.dtype.type(1)) | (bits >> bits.dtype.type(8 * width - 1))
    table = np.frombuffer(source, np.uint8).reshape(-1, width)
    return [np.ascontiguousarray(table[:, plane]) for plane in range(width)]


def join(planes: Sequence[NDArray[np.uint8]], dtype: str) -> bytes:
    """The inverse of ``split``."""
    kind, width = find_dtype(dtype).kind, find_dtype(dtype).itemsize
    table = np.stack(planes, axis=1)
    if kind == "float":
        bits = table.reshape(-1).view(f"<u{width}")
        bits[:] = (bits >> bits.dtype.type(1)) | (bits << bits.dtype.type(8 * width - 1))
    return table.tobytes()
