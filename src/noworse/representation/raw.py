"""A tensor written losslessly, whatever its type."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.errors import BadInput
from noworse.representation.base import Representation
from noworse.representation.dtypes import find_dtype


@dataclass(frozen=True)
class Raw(Representation):
    """The elements as they are: ``data`` holds them little-endian in C order."""

    data: bytes | memoryview = field(repr=False)
    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.data) != self.nbytes:
            raise BadInput(f"{len(self.data)} bytes of data, expected {self.nbytes} for {self.dtype} of {self.shape}")
        if self.dtype == "bool" and len(self.data) and np.frombuffer(self.data, np.uint8).max() > 1:
            raise BadInput("a bool tensor with bytes other than 0 and 1")

    def view(self) -> NDArray[Any]:
        """The stored elements without a copy of the data."""
        return np.frombuffer(self.data, find_dtype(self.dtype).storage).reshape(self.shape)

    def storage(self) -> NDArray[Any]:
        """A writable copy of the data."""
        return self.view().copy()
