"""A tensor of at most 256 different values, as clustering by k-means leaves it: a list of values, and codes into it.

The values stand in ascending order, so that near codes mean near values, and the most frequent one has code 0: codes
are then small where a network's values are, and are coded like those of a grid. Values are compared and kept as bits,
which tells -0.0 from 0.0 and keeps every NaN.
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
from noworse.representation.columns import Cursor
from noworse.representation.dtypes import PIECE, find_dtype

MOST = 256  # values


class Palette(NamedTuple):
    """The header fields of a codebook: its values, and the place among them of the one of code 0."""

    values: bytes  # little-endian
    width: int  # bytes of a value
    zero: int


@register
@dataclass(frozen=True, eq=False)
class Codebook(TensorOfCodes):
    """Element i (C order) is value ``codes[i] + zero`` of ``values``, which are little-endian bytes and ascend.

    Ascending means: negative values, by falling magnitude, then all others, by magnitude, as the bits say it.
    """

    number, label, column = 5, "codebook", "codebooks"

    codes: NDArray[np.int32] = field(repr=False)
    values: bytes
    zero: int
    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        super().__post_init__()
        width = find_dtype(self.dtype).itemsize
        count, rest = divmod(len(self.values), width)
        if rest or not 1 <= count <= MOST or not 0 <= self.zero < count:
            found = f"{len(self.values)} bytes of values, number {self.zero} of code 0"
            raise BadInput(f"{found}; expected 1 to {MOST} values of {width} bytes and one of them for code 0")
        ranks = _ranks(np.frombuffer(self.values, f"<u{width}"))
        if (ranks[1:] <= ranks[:-1]).any():
            raise BadInput("the values of a codebook do not ascend")
        (least, most), low, high = self.bounds(), -self.zero, count - 1 - self.zero
        if least < low or most > high:
            raise BadInput(f"codes from {least} to {most}, expected {low} to {high}")

    @classmethod
    def from_values(cls, stored: NDArray[Any], dtype: str) -> Codebook:
        """Return the codebook of stored elements (``Representation.storage``); BadInput for more than 256 values."""
        words = stored.reshape(-1).view(f"<u{stored.itemsize}")
        numbers = np.empty(words.size, np.int32)
        known = _native.distinct(np.ascontiguousarray(words), MOST, numbers)
        if known is None or not known.size:
            raise BadInput(f"a tensor of {words.size} elements and too many or no values, expected 1 to {MOST}")
        order = np.argsort(_ranks(known))
        places = np.empty(known.size, np.int32)
        places[order] = np.arange(known.size, dtype=np.int32)
        codes = places[numbers]
        zero = int(np.bincount(codes).argmax())
        codes -= zero
        return cls(codes, known[order].tobytes(), zero, stored.shape, dtype)

    @property
    def fields(self) -> Palette:
        """Values, their width, and the place of code 0."""
        return Palette(self.values, find_dtype(self.dtype).itemsize, self.zero)

    @classmethod
    def pack(cls, fields: Sequence[Palette]) -> tuple[bytes, bytes]:
        """Return numbers of values less one, places of code 0, then the highest byte of each value, the next one, ...

        What deflate can shrink are the high bytes, so they stand side by side.
        """
        counts = bytes(len(palette.values) // palette.width - 1 for palette in fields)
        planes = (np.frombuffer(palette.values, np.uint8).reshape(-1, palette.width).T[::-1] for palette in fields)
        return counts + bytes(palette.zero for palette in fields) + b"".join(map(np.ndarray.tobytes, planes)), b""

    @classmethod
    def unpack(cls, cursor: Cursor, tail: Cursor, signatures: Sequence[Signature]) -> Sequence[Palette]:
        """Return what ``pack`` wrote."""
        counts = cursor.take(len(signatures), "numbers of values of codebooks")
        zeros = cursor.take(len(signatures), "codes of codebooks")
        palettes = []
        for signature, less, zero in zip(signatures, counts, zeros, strict=True):
            width = find_dtype(signature.dtype).itemsize
            planes = np.frombuffer(cursor.take((less + 1) * width, "values of codebooks"), np.uint8)
            palettes.append(Palette(planes.reshape(width, -1)[::-1].T.tobytes(), width, zero))
        return palettes

    @classmethod
    def assemble(cls, signature: Signature, fields: Palette, symbols: Arrays, others: Sequence[Any]) -> Codebook:
        """See ``Representation.assemble``."""
        codes = symbols[0] if symbols else np.zeros(0, np.int32)
        return cls(codes, fields.values, fields.zero, signature.shape, signature.dtype)

    def storage(self) -> NDArray[Any]:
        """Return the values that the codes mean."""
        values = np.frombuffer(self.values, find_dtype(self.dtype).storage)
        values = np.roll(values, -self.zero)  # negative codes count from the end
        out = np.empty(self.size, values.dtype)
        for start in range(0, self.size, PIECE):
            out[start : start + PIECE] = values[self.codes[start : start + PIECE]]
        return out.reshape(self.shape)

    @property
    def details(self) -> dict[str, Any]:
        """The number of values."""
        return {"values": len(self.values) // find_dtype(self.dtype).itemsize}

    def __str__(self) -> str:
        return f"codebook of {self.details['values']}"


def _ranks(words: NDArray[Any]) -> NDArray[np.int64]:
    """Integers in the order of the values that words stand for: magnitudes, or less than zero by more than that."""
    bits = 8 * words.itemsize - 1
    magnitudes = (words & words.dtype.type((1 << bits) - 1)).astype(np.int64)
    return np.asarray(np.where(words >> words.dtype.type(bits), -1 - magnitudes, magnitudes))
