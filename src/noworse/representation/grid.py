"""A tensor on a grid with a zero bin of its own width (a dead zone): integer codes, a step size, an edge, a form.

    value(k) = sign(k) (f(|k|) + r - 1/2) s        value(0) = 0

for step size s, zero bin of half width r s, and f(k) = k unless the form says otherwise (curves.py). Values are exact
where f(k) = k, and rounded once, to float32: s has a 9-bit mantissa, r is a multiple of 1/64, and the product with an
integer below 2**37 fits the 53 bits of a float64.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from noworse.codec import _native
from noworse.errors import BadInput
from noworse.representation.base import Arrays, Signature, TensorOfCodes, register
from noworse.representation.columns import MAX_STEP, Cursor, unpack_step
from noworse.representation.curves import PLAIN, Form, check_channels, pack_forms, unpack_forms
from noworse.representation.dtypes import PIECE, find_dtype, from_float32

EDGE_UNITS = 64  # edges count in 1/64 of a step
MAX_EDGE = 255
MAX_CODE = 1 << 30
AT_ONCE = 1 << 20  # elements that threads share


def check_scale(step: int, edge: int) -> None:
    """Raise BadInput for a packed step or an edge that no grid can have."""
    if not 0 < step <= MAX_STEP:
        raise BadInput(f"a packed step of {step}, expected 1 to {MAX_STEP}")
    if not 0 < edge <= MAX_EDGE:
        raise BadInput(f"an edge of {edge}, expected 1 to {MAX_EDGE}")


class Scale(NamedTuple):
    """The header fields of a grid: a packed step, an edge, a form."""

    step: int
    edge: int
    form: Form = PLAIN


@register
@dataclass(frozen=True, eq=False)
class Grid(TensorOfCodes):
    """Integer ``codes`` (flat, C order), a packed ``step``, the half width ``edge`` of the zero bin in step/64, a form.

    BadInput for what no file can hold.
    """

    number, label, column = 2, "grid", "scales"

    codes: NDArray[np.int32] = field(repr=False)
    step: int
    edge: int
    shape: tuple[int, ...]
    dtype: str
    form: Form = PLAIN

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scale(self.step, self.edge)
        check_channels(self.form, self.step, self.shape)
        low, high = self.bounds()
        if max(-low, high) > MAX_CODE:
            raise BadInput(f"codes reach beyond +-2**30: {low} to {high}")

    @property
    def fields(self) -> Any:
        """Step, edge and form."""
        return Scale(self.step, self.edge, self.form)

    @classmethod
    def pack(cls, fields: Sequence[Any]) -> tuple[bytes, bytes]:
        """Return high bytes of steps, edges and forms; and low bytes of steps, which look like noise."""
        high, low = bytes(scale.step >> 8 for scale in fields), bytes(scale.step & 0xFF for scale in fields)
        return high + pack_forms([scale.edge for scale in fields], [scale.form for scale in fields]), low

    @classmethod
    def unpack(cls, cursor: Cursor, tail: Cursor, signatures: Sequence[Signature]) -> Sequence[Any]:
        """Return what ``pack`` wrote."""
        high = cursor.take(len(signatures), "step sizes")
        edges, forms = unpack_forms(cursor, [signature.shape for signature in signatures])
        low = tail.take(len(signatures), "step sizes")
        return [Scale(h << 8 | w, e, form) for h, w, e, form in zip(high, low, edges, forms, strict=True)]

    @classmethod
    def assemble(cls, signature: Signature, fields: Any, symbols: Arrays, others: Sequence[Any]) -> Grid:
        """See ``Representation.assemble``."""
        codes = symbols[0] if symbols else np.zeros(0, np.int32)
        return cls(codes, fields.step, fields.edge, signature.shape, signature.dtype, fields.form)

    @classmethod
    def line(cls, fields: Any) -> tuple[int, int] | None:
        """Return step and edge of a grid without a form."""
        return (fields.step, fields.edge) if fields.form == PLAIN else None

    def zeros(self) -> int:
        """Return the number of codes that are zero."""
        return int((self.codes == 0).sum())

    def storage(self) -> NDArray[Any]:
        """Return the reconstruction points of all codes."""
        if not self.size:
            return np.zeros(self.shape, find_dtype(self.dtype).storage)
        if self.form == PLAIN:
            return self._plain().reshape(self.shape)
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

    def _plain(self) -> NDArray[Any]:
        """The points of a grid without a form, flat."""
        out = np.empty(self.size, find_dtype(self.dtype).storage)
        for start in range(0, self.size, AT_ONCE):
            codes, part = self.codes[start : start + AT_ONCE], out[start : start + AT_ONCE]
            values = part if self.dtype == "float32" else np.empty(codes.size, np.float32)
            _native.grid_values(codes, unpack_step(self.step), self.edge, values)
            if values is not part:
                part[:] = from_float32(values, self.dtype)
        return out

    def fingerprint(self) -> int:
        """See ``Representation.fingerprint``; the values of codes are never held as a whole where they are float32."""
        if self.line(self.fields) is None or self.dtype != "float32" or type(self) is not Grid:
            return super().fingerprint()
        return _native.grid_fingerprint(self.codes, unpack_step(self.step), self.edge)

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
