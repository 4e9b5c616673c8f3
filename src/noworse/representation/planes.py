"""Lossless data as byte planes, so that an entropy coder meets like bytes together.

The elements of a floating type are rotated left by one bit first: the sign moves to the lowest mantissa bit and the
exponent fills the highest byte alone (float32, bfloat16) or begins in it. Trained weights use few exponents, so that
plane shrinks; the others hold mantissa bits, which are noise. Plane 0 holds the lowest byte of every element.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from noworse.codec import _native
from noworse.representation.dtypes import find_dtype

MACHINE_WORDS = (2, 4, 8)  # bytes of an element that native code handles


def split(data: bytes | memoryview, dtype: str) -> Iterator[NDArray[np.uint8]]:
    """The byte planes of little-endian elements one after the other, lowest byte first."""
    kind, width = find_dtype(dtype).kind, find_dtype(dtype).itemsize
    source = np.frombuffer(data, np.uint8)
    if width == 1 and kind == "float":  # rotated within the byte
        source = (source << np.uint8(1)) | (source >> np.uint8(7))
    for plane in range(width):
        if width not in MACHINE_WORDS:
            yield np.ascontiguousarray(source[plane::width])
            continue
        out = np.empty(source.size // width, np.uint8)
        _native.take_plane(source, width, plane, kind == "float", out)
        yield out


def join(planes: Sequence[NDArray[np.uint8]], dtype: str) -> NDArray[np.uint8]:
    """The inverse of ``split``: the bytes of all elements, in an array of their own."""
    kind, width = find_dtype(dtype).kind, find_dtype(dtype).itemsize
    if width in MACHINE_WORDS:
        out = np.empty(planes[0].size * width, np.uint8)
        _native.put_planes([np.ascontiguousarray(plane) for plane in planes], kind == "float", out)
        return out
    out = np.stack(planes, axis=1).reshape(-1)
    return (out >> np.uint8(1)) | (out << np.uint8(7)) if kind == "float" else out
