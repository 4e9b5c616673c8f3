"""A tensor whose elements are all the same: fresh running statistics, pruned layers, scalars."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.errors import BadInput
from noworse.representation.base import Arrays, Representation, Signature, register
from noworse.representation.dtypes import DType, find_dtype


@register
@dataclass(frozen=True)
class Constant(Representation):
    """Every element equals ``value``, the little-endian bytes of one element."""

    number, label = 0, "constant"

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

    @property
    def signature(self) -> Signature:
        """Kind, dtype, shape and value: many a network has hundreds of tensors of ones."""
        return Signature(type(self), self.dtype, self.shape, self.value)

    @classmethod
    def value_bytes(cls, dtype: DType) -> int:
        """Return the bytes of one element."""
        return dtype.itemsize

    @classmethod
    def assemble(cls, signature: Signature, fields: None, symbols: Arrays, others: Sequence[Any]) -> Constant:
        """See ``Representation.assemble``."""
        return cls(signature.value, signature.shape, signature.dtype)

    def storage(self) -> NDArray[Any]:
        """Return the value, repeated."""
        return np.full(self.shape, np.frombuffer(self.value, find_dtype(self.dtype).storage)[0])
