"""A tensor written losslessly, whatever its type: byte planes, so that an entropy coder meets like bytes together.

The elements of a floating type are rotated left by one bit first: the sign moves to the lowest mantissa bit and the
exponent fills the highest byte alone (float32, bfloat16) or begins in it. Trained weights use few exponents, so that
plane shrinks; the others hold mantissa bits, which are noise. Plane 0 holds the lowest byte of every element.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.codec import _native
from noworse.errors import BadInput
from noworse.representation.base import BYTES, Arrays, Representation, Signature, register
from noworse.representation.dtypes import find_dtype

MACHINE_WORDS = (2, 4, 8)  # bytes of an element that native code handles


@register
@dataclass(frozen=True)
class Raw(Representation):
    """The elements as they are: ``data`` holds them little-endian in C order."""

    number, label, holds, planes = 1, "raw", BYTES, True

    data: bytes | memoryview = field(repr=False)
    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.data) != self.nbytes:
            raise BadInput(f"{len(self.data)} bytes of data, expected {self.nbytes} for {self.dtype} of {self.shape}")
        if self.dtype == "bool" and len(self.data) and np.frombuffer(self.data, np.uint8).max() > 1:
            raise BadInput("a bool tensor with bytes other than 0 and 1")

    def symbols(self) -> Iterator[NDArray[Any]]:
        """Yield the byte planes, lowest first."""
        return split(self.data, self.dtype)

    @classmethod
    def assemble(cls, signature: Signature, fields: None, symbols: Arrays, others: Sequence[Any]) -> Raw:
        """See ``Representation.assemble``; the memory is nobody else's."""
        return cls(join(symbols, signature.dtype).data if symbols else b"", signature.shape, signature.dtype)

    def storage(self) -> NDArray[Any]:
        """Return the elements without a copy of the data."""
        return np.frombuffer(self.data, find_dtype(self.dtype).storage).reshape(self.shape)


def split(data: bytes | memoryview, dtype: str) -> Iterator[NDArray[np.uint8]]:
    """Yield the byte planes of little-endian elements, lowest byte first."""
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
    """Return the bytes of all elements, in an array of their own: the inverse of ``split``."""
    kind, width = find_dtype(dtype).kind, find_dtype(dtype).itemsize
    if width in MACHINE_WORDS:
        out = np.empty(planes[0].size * width, np.uint8)
        _native.put_planes([np.ascontiguousarray(plane) for plane in planes], kind == "float", out)
        return out
    out = np.stack(planes, axis=1).reshape(-1)
    return (out >> np.uint8(1)) | (out << np.uint8(7)) if kind == "float" else out
