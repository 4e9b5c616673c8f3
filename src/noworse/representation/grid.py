"""A tensor on a uniform grid with a zero bin of its own width (a dead zone): integer codes, a step size, an edge.

The reconstruction point of code k lies in the middle of its bin, for step size s and zero bin of half width r s:

    value(k) = sign(k) (r + |k| - 1/2) s        value(0) = 0

The step size is a minifloat: the upper 16 of the 31 bits of a float32 behind its sign, that is 8 bits of exponent and
8 of mantissa. The ratio r is a multiple of 1/64. Both are what a file holds, so the value is exact: the product of an
integer below 2**37 and a 9-bit mantissa fits the 53 bits of a float64 and is rounded once, to float32.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.errors import BadInput
from noworse.representation.base import Representation
from noworse.representation.dtypes import PIECE, find_dtype, from_float32

EDGE_UNITS = 64  # edges count in 1/64 of a step
MAX_EDGE = 255
MAX_STEP = (0xFF << 8) - 1  # the largest finite minifloat
MAX_CODE = 1 << 30
FLOATS = ("float16", "bfloat16", "float32", "float64")


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


def check_scale(step: int, edge: int) -> None:
    """BadInput for a packed step or an edge that no grid can have."""
    if not 0 < step <= MAX_STEP:
        raise BadInput(f"a packed step of {step}, expected 1 to {MAX_STEP}")
    if not 0 < edge <= MAX_EDGE:
        raise BadInput(f"an edge of {edge}, expected 1 to {MAX_EDGE}")


@dataclass(frozen=True, eq=False)
class Grid(Representation):
    """Integer ``codes`` (flat, C order), a packed ``step``, and the half width ``edge`` of the zero bin in step/64."""

    codes: NDArray[np.int32] = field(repr=False)
    step: int
    edge: int
    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dtype not in FLOATS:
            raise BadInput(f"a grid of dtype {self.dtype}, expected one of {', '.join(FLOATS)}")
        check_scale(self.step, self.edge)
        if self.codes.dtype != np.int32 or self.codes.shape != (self.size,):
            found = f"{self.codes.dtype} of {self.codes.shape}"
            raise BadInput(f"codes are {found}, expected int32 of {(self.size,)} for shape {self.shape}")
        if self.size and max(-int(self.codes.min()), int(self.codes.max())) > MAX_CODE:
            raise BadInput(f"codes reach beyond +-2**30: {self.codes.min()} to {self.codes.max()}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        mine, theirs = ((g.step, g.edge, g.shape, g.dtype) for g in (self, other))
        return mine == theirs and np.array_equal(self.codes, other.codes)

    __hash__ = None  # type: ignore[assignment]  # arrays have no hash

    def storage(self) -> NDArray[Any]:
        """The reconstruction points of all codes."""
        if not self.size:
            return np.zeros(self.shape, find_dtype(self.dtype).storage)
        low, high = int(self.codes.min()), int(self.codes.max())
        wide = high - low > max(self.size // 8, 1 << 10)  # a table of all codes would take as much memory as the tensor
        table = None if wide else from_float32(self._values(np.arange(low, high + 1, dtype=np.int32)), self.dtype)
        out = np.empty(self.size, find_dtype(self.dtype).storage)
        for start in range(0, self.size, PIECE):
            codes = self.codes[start : start + PIECE]
            values = from_float32(self._values(codes), self.dtype) if table is None else table[codes - np.int32(low)]
            out[start : start + PIECE] = values
        return out.reshape(self.shape)

    def _values(self, codes: NDArray[np.int32]) -> NDArray[np.float32]:
        out, unit = np.empty(codes.size, np.float32), unpack_step(self.step) / EDGE_UNITS
        with np.errstate(over="ignore"):  # a hostile step may lead to infinity, which is no crash
            for start in range(0, codes.size, PIECE):
                k = codes[start : start + PIECE].astype(np.int64)
                out[start : start + PIECE] = np.sign(k) * (self.edge + EDGE_UNITS * np.abs(k) - EDGE_UNITS // 2) * unit
        return out
