"""A tensor on a grid with a zero bin of its own width (a dead zone): integer codes, a step size, an edge, a form.

The reconstruction point of code k lies in the middle of its bin, for step size s and zero bin of half width r s:

    value(k) = sign(k) (f(|k|) + r - 1/2) s        value(0) = 0

where f(k) = k, unless the form of the grid says otherwise (curves.py); it may also give every row a step of its own.
The step size is a minifloat, the ratio r a multiple of 1/64. Both are what a file holds, so the value is exact where
f(k) = k: the product of an integer below 2**37 and a 9-bit mantissa fits the 53 bits of a float64 and is rounded once,
to float32. On other curves sum and product are rounded as float64 first.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.errors import BadInput
from noworse.representation.base import Representation
from noworse.representation.dtypes import PIECE, find_dtype, from_float32
from noworse.representation.form import PLAIN, Form, check_channels
from noworse.representation.minifloat import MAX_STEP, unpack_step

EDGE_UNITS = 64  # edges count in 1/64 of a step
MAX_EDGE = 255
MAX_CODE = 1 << 30
FLOATS = ("float16", "bfloat16", "float32", "float64")


def check_scale(step: int, edge: int) -> None:
    """BadInput for a packed step or an edge that no grid can have."""
    if not 0 < step <= MAX_STEP:
        raise BadInput(f"a packed step of {step}, expected 1 to {MAX_STEP}")
    if not 0 < edge <= MAX_EDGE:
        raise BadInput(f"an edge of {edge}, expected 1 to {MAX_EDGE}")


@dataclass(frozen=True, eq=False)
class Grid(Representation):
    """Integer ``codes`` (flat, C order), a packed ``step``, the half width ``edge`` of the zero bin in step/64, a form.

    BadInput for what no file can hold.
    """

    codes: NDArray[np.int32] = field(repr=False)
    step: int
    edge: int
    shape: tuple[int, ...]
    dtype: str
    form: Form = PLAIN

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dtype not in FLOATS:
            raise BadInput(f"a grid of dtype {self.dtype}, expected one of {', '.join(FLOATS)}")
        check_scale(self.step, self.edge)
        check_channels(self.form, self.step, self.shape)
        if self.codes.dtype != np.int32 or self.codes.shape != (self.size,):
            found = f"{self.codes.dtype} of {self.codes.shape}"
            raise BadInput(f"codes are {found}, expected int32 of {(self.size,)} for shape {self.shape}")
        if self.size and max(-int(self.codes.min()), int(self.codes.max())) > MAX_CODE:
            raise BadInput(f"codes reach beyond +-2**30: {self.codes.min()} to {self.codes.max()}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Grid):
            return NotImplemented
        mine, theirs = ((g.step, g.edge, g.shape, g.dtype, g.form) for g in (self, other))
        return mine == theirs and np.array_equal(self.codes, other.codes)

    __hash__ = None  # type: ignore[assignment]  # arrays have no hash

    def storage(self) -> NDArray[Any]:
        """The reconstruction points of all codes."""
        if not self.size:
            return np.zeros(self.shape, find_dtype(self.dtype).storage)
        low, high = int(self.codes.min()), int(self.codes.max())
        wide = high - low > max(self.size // 8, 1 << 10)  # a table of all codes would take as much memory as the tensor
        table = None if wide else self._units(np.arange(low, high + 1, dtype=np.int32))
        out = np.empty(self.size, find_dtype(self.dtype).storage)
        for start in range(0, self.size, PIECE):
            codes = self.codes[start : start + PIECE]
            units = self._units(codes) if table is None else table[codes - np.int32(low)]
            with np.errstate(over="ignore"):  # a hostile step may lead to infinity, which is no crash
                values = (units * self._steps(start, codes.size)).astype(np.float32)
            out[start : start + PIECE] = from_float32(values, self.dtype)
        return out.reshape(self.shape)

    def _units(self, codes: NDArray[np.int32]) -> NDArray[np.float64]:
        """sign(k) (f(|k|) + r - 1/2), in steps."""
        out = np.empty(codes.size)
        for start in range(0, codes.size, PIECE):
            k = codes[start : start + PIECE].astype(np.float64)
            magnitudes = self.form.points(np.abs(k)) + (self.edge / EDGE_UNITS - 0.5)
            out[start : start + PIECE] = np.sign(k) * np.where(k == 0, 0.0, magnitudes)
        return out

    def _steps(self, start: int, count: int) -> NDArray[np.float64] | float:
        """The steps of ``count`` elements from ``start`` on, or the one that they all have."""
        if not self.form.channels:
            return unpack_step(self.step)
        rows = np.arange(start, start + count) // (self.size // self.shape[0])
        numbers = (self.step + self.form.offsets()).astype(np.uint32) << np.uint32(15)
        steps: NDArray[np.float64] = numbers.view(np.float32).astype(np.float64)[rows]
        return steps
