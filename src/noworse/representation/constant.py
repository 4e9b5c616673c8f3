"""A tensor whose elements are all the same: fresh running statistics, pruned layers, scalars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.errors import BadInput
from noworse.representation.base import Representation
from noworse.representation.dtypes import find_dtype


@dataclass(frozen=True)
class Constant(Representation):
    """Every element equals ``value``, the little-endian bytes of one element."""

    value: bytes
    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        super().__post_init__()
        expected = find_dtype(self.dtype).itemsize
        if len(self.value) != expected:
            raise BadInput(f"a constant of {len(self.value)} bytes, expected the {expected} of one {self.dtype}")
        if self.dtype == "bool" and self.value not in (b"\0", b"\1"):
            raise BadInput(f"a bool constant of value {self.value[0]}, expected 0 or 1")

    def storage(self) -> NDArray[Any]:
        """The value, repeated."""
        return np.full(self.shape, np.frombuffer(self.value, find_dtype(self.dtype).storage)[0])
