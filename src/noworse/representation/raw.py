"""A tensor written losslessly, whatever its type."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.errors import BadInput
from noworse.representation.base import BYTES, Representation, Signature
from noworse.representation.dtypes import find_dtype
from noworse.representation.planes import join, split


@dataclass(frozen=True)
class Raw(Representation):
    """The elements as they are: ``data`` holds them little-endian in C order."""

    number, label, holds = 1, "raw", BYTES

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
        """One byte of every element, the lowest first (see planes.py)."""
        return split(self.data, self.dtype)

    @classmethod
    def assemble(
        cls, signature: Signature, fields: None, symbols: Sequence[NDArray[Any]], others: Sequence[Any]
    ) -> Raw:
        """Of bytes that are joined again, in memory that is nobody else's."""
        return cls(join(symbols, signature.dtype).data if symbols else b"", signature.shape, signature.dtype)

    def view(self) -> NDArray[Any]:
        """The stored elements without a copy of the data."""
        return np.frombuffer(self.data, find_dtype(self.dtype).storage).reshape(self.shape)

    def storage(self) -> NDArray[Any]:
        """A writable copy of the data."""
        return self.view().copy()
