"""What every representation has: a shape, a dtype, and a way back to numbers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from numpy.typing import NDArray

from noworse.errors import BadInput
from noworse.representation.dtypes import find_dtype, to_numpy

MAX_DIMS = 8
MAX_ELEMENTS = 1 << 56  # far beyond any memory; keeps element counts times item sizes within 63 bits


class Described:
    """What has a shape and a dtype has a size: shared by representations and by what an index says of them."""

    shape: tuple[int, ...]
    dtype: str

    @cached_property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the decoded tensor."""
        return self.size * find_dtype(self.dtype).itemsize


class Representation(Described, ABC):
    """One way to write one tensor; subclasses are frozen dataclasses with the fields ``shape`` and ``dtype``."""

    def __post_init__(self) -> None:
        find_dtype(self.dtype)
        object.__setattr__(self, "shape", checked_shape(self.shape))

    @abstractmethod
    def storage(self) -> NDArray[Any]:
        """The decoded elements bit for bit: unsigned integers of the same width where numpy lacks the dtype."""

    def decode(self) -> NDArray[Any]:
        """The decoded tensor; bfloat16 and float8 come as float32 holding exactly the same values."""
        return to_numpy(self.storage(), self.dtype)


def checked_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Return ``shape`` as a tuple of ints; BadInput for more than 8 dimensions, a negative or an absurd extent."""
    result = tuple(int(extent) for extent in shape)
    if len(result) > MAX_DIMS:
        raise BadInput(f"a shape of {len(result)} dimensions, expected at most {MAX_DIMS}")
    if any(extent < 0 for extent in result):
        raise BadInput(f"shape {result} has a negative extent")
    # numpy multiplies the other extents of an empty array too, so they are limited as well
    if math.prod(extent for extent in result if extent) > MAX_ELEMENTS:
        raise BadInput(f"shape {result} has more than 2**56 elements")
    return result
