"""A grid and a list of elements that it does not reach: outliers, each with its place and its value, bit for bit.

Their codes, which stand for nothing, should be zero, the cheapest there is. A list costs a byte or two for each place,
and the bytes of each value.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from noworse.errors import BadInput
from noworse.representation.base import Arrays, Signature, register
from noworse.representation.columns import Cursor, varints
from noworse.representation.dtypes import find_dtype
from noworse.representation.grid import Grid, Scale

MOST = 1 << 10  # of a tensor: the index holds the list, and a reader the whole index


class Listed(NamedTuple):
    """The header fields of a grid with outliers: those of the grid, and the list."""

    scale: Scale
    places: bytes  # u64 each, ascending
    values: bytes


@register
@dataclass(frozen=True, eq=False)
class Outliers(Grid):
    """A grid whose elements at ``places`` (C order) have ``values`` of their own: little-endian bytes, u64 and dtype.

    BadInput for what no file can hold.
    """

    number, label, column = 6, "outliers", "outliers"

    places: bytes = b""
    values: bytes = b""

    def __post_init__(self) -> None:
        super().__post_init__()
        at, width = self.at, find_dtype(self.dtype).itemsize
        if not 1 <= len(at) <= MOST or len(self.values) != width * len(at):
            found = f"{len(at)} places and {len(self.values)} bytes of values"
            raise BadInput(f"{found} of outliers, expected 1 to {MOST}, and values of {width} bytes each")
        if (at[1:] <= at[:-1]).any() or at[-1] >= self.size:
            raise BadInput(f"places of outliers that do not ascend below {self.size}")

    @classmethod
    def beside(cls, grid: Grid, at: NDArray[np.integer[Any]], values: NDArray[Any]) -> Grid:
        """Return ``grid`` with stored ``values`` (n,) at the places ``at`` (n,), ascending; itself without any."""
        whole = grid.codes, grid.step, grid.edge, grid.shape, grid.dtype, grid.form
        return cls(*whole, at.astype("<u8").tobytes(), values.tobytes()) if len(at) else grid

    @property
    def at(self) -> NDArray[np.uint64]:
        """The places of outliers."""
        return np.frombuffer(self.places, "<u8")

    @property
    def fields(self) -> Any:
        """Those of the grid, and the list."""
        return Listed(Scale(self.step, self.edge, self.form), self.places, self.values)

    @classmethod
    def pack(cls, fields: Sequence[Any]) -> tuple[bytes, bytes]:
        """Return what ``Grid.pack`` does, then numbers of outliers, gaps between places, values from high bytes on."""
        head, tail = super().pack([listed.scale for listed in fields])
        places = [np.frombuffer(listed.places, "<u8").tolist() for listed in fields]
        gaps = varints(place - last - 1 for at in places for last, place in zip([-1, *at], at))
        planes = (
            np.frombuffer(listed.values, np.uint8).reshape(len(at), -1).T[::-1].tobytes()
            for listed, at in zip(fields, places, strict=True)
        )
        return head + varints(map(len, places)) + gaps + b"".join(planes), tail

    @classmethod
    def unpack(cls, cursor: Cursor, tail: Cursor, signatures: Sequence[Signature]) -> Sequence[Any]:
        """Return what ``pack`` wrote."""
        scales = super().unpack(cursor, tail, signatures)
        counts = cursor.varints(len(signatures), "numbers of outliers")
        if max(counts, default=0) > MOST:
            raise BadInput(f"{max(counts)} outliers of one tensor, expected at most {MOST}")
        gaps = np.array(cursor.varints(sum(counts), "places of outliers"), np.uint64)
        sizes = np.array([signature.size for signature in signatures], np.uint64)
        if (gaps >= np.repeat(sizes, counts)).any():
            raise BadInput("a place of an outlier beyond its tensor's elements")
        ends = np.cumsum(gaps + np.uint64(1))  # of all tensors, modulo 2**64
        firsts = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        before = np.concatenate([np.zeros(1, np.uint64), ends])[firsts[:-1]]
        places = (ends - np.repeat(before, counts) - np.uint64(1)).astype("<u8").tobytes()
        found = []
        for signature, scale, count, first in zip(signatures, scales, counts, firsts[:-1].tolist(), strict=True):
            planes = cursor.take(count * find_dtype(signature.dtype).itemsize, "values of outliers")
            values = b"".join(planes[i::count][::-1] for i in range(count))
            found.append(Listed(scale, places[8 * first : 8 * (first + count)], values))
        return found

    @classmethod
    def assemble(cls, signature: Signature, fields: Any, symbols: Arrays, others: Sequence[Any]) -> Grid:
        """See ``Representation.assemble``."""
        codes, scale = symbols[0] if symbols else np.zeros(0, np.int32), fields.scale
        whole = codes, scale.step, scale.edge, signature.shape, signature.dtype, scale.form
        return cls(*whole, fields.places, fields.values)

    @classmethod
    def line(cls, fields: Any) -> tuple[int, int] | None:
        """Return step and edge of a grid without a form."""
        return super().line(fields.scale)

    @classmethod
    def restore(cls, stored: NDArray[Any], fields: Any) -> bool:
        """Put outliers in their places."""
        stored.reshape(-1)[np.frombuffer(fields.places, "<u8")] = np.frombuffer(fields.values, stored.dtype)
        return True

    def zeros(self) -> int:
        """Return the number of elements that are zero."""
        return int((self.decode() == 0).sum())

    def storage(self) -> NDArray[Any]:
        """Return the reconstruction points of all codes, and the outliers."""
        stored = super().storage()
        self.restore(stored, self.fields)
        return stored

    @property
    def details(self) -> dict[str, Any]:
        """The number of outliers."""
        return {"outliers": len(self.at)}

    def __str__(self) -> str:
        return f"outliers, {len(self.at)} beside a grid"
