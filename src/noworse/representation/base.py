"""What a kind of tensor declares: its number in a file, its header fields, its streams, and a way back to numbers.

A kind is one subclass of ``Representation`` in a file of its own, which puts itself into ``KINDS``. Whoever writes,
reads, shows or attacks files goes by that table and asks the kind; what a kind does not declare, it does not have.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from noworse.codec import fingerprint
from noworse.errors import BadInput
from noworse.representation.columns import Cursor
from noworse.representation.dtypes import DTYPES, DType, find_dtype, to_numpy

MAX_DIMS = 8
MAX_ELEMENTS = 1 << 56  # far beyond any memory; keeps element counts times item sizes within 63 bits
NOTHING, CODES, BYTES = "nothing", "codes", "bytes"  # what streams hold: int32 in one, or uint8 in one per byte
FLOATS = ("float16", "bfloat16", "float32", "float64")
Arrays: TypeAlias = Sequence[NDArray[Any]]


class Described:
    """Sizes of what has a shape and a dtype."""

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


@dataclass(frozen=True)
class Signature(Described):
    """Kind, dtype and shape, which many tensors of a network have in common; ``value`` is up to the kind."""

    kind: type[Representation]
    dtype: str
    shape: tuple[int, ...]
    value: bytes = b""

    @cached_property
    def streams(self) -> int:
        """Number of streams that hold the elements."""
        width = {NOTHING: 0, CODES: 1, BYTES: find_dtype(self.dtype).itemsize}[self.kind.holds]
        return width if self.size else 0

    @property
    def columns(self) -> int:
        """Length of a row where the elements are seen as a matrix, by all dimensions but the first; 0 for a vector."""
        columns = self.size // self.shape[0] if self.size and self.shape else 0
        return columns if 1 < columns < self.size else 0


class Representation(Described, ABC):
    """One way to write one tensor; subclasses are frozen dataclasses with the fields ``shape`` and ``dtype``."""

    # how a file tells the kind
    number: ClassVar[int]  # 0 to 255
    label: ClassVar[str]
    dtypes: ClassVar[Collection[str]] = tuple(DTYPES)  # that it can stand for
    holds: ClassVar[str] = NOTHING  # in its streams
    column: ClassVar[str] = ""  # the category under which the bytes of its header fields are counted
    planes: ClassVar[bool] = False  # its bytes are those of elements, as raw.py has them: native code joins them
    refers: ClassVar[bool] = False  # to another tensor of the file, by name
    factors: ClassVar[int] = 0  # nameless tensors that it is made of

    def __post_init__(self) -> None:
        find_dtype(self.dtype)
        object.__setattr__(self, "shape", checked_shape(self.shape))
        if self.dtype not in self.dtypes:
            raise BadInput(f"a {self.label} of dtype {self.dtype}, expected one of {', '.join(self.dtypes)}")

    # from a tensor to a file

    @property
    def signature(self) -> Signature:
        """Kind, dtype, shape and value, written once for all tensors that agree in it."""
        return Signature(type(self), self.dtype, self.shape)

    @property
    def fields(self) -> Any:
        """The header fields of this tensor alone, as ``pack`` takes them."""
        return None

    @classmethod
    def pack(cls, fields: Sequence[Any]) -> tuple[bytes, bytes]:
        """Return the header fields of all tensors of this kind as bytes that deflate may shrink, and others."""
        return b"", b""

    def symbols(self) -> Iterator[NDArray[Any]]:
        """Yield the contents of each stream, one symbol per element."""
        return iter(())

    @property
    def others(self) -> Sequence[str | Representation]:
        """The name of the tensor that this one refers to, or its factors."""
        return ()

    # from a file to a tensor

    @classmethod
    def value_bytes(cls, dtype: DType) -> int:
        """Return the bytes of ``Signature.value``."""
        return 0

    @classmethod
    def unpack(cls, cursor: Cursor, tail: Cursor, signatures: Sequence[Signature]) -> Sequence[Any]:
        """Return the header fields that ``pack`` wrote; CorruptFile or BadInput for what it would not write."""
        return [None] * len(signatures)

    @classmethod
    def check(cls, signature: Signature, others: Sequence[Signature]) -> None:
        """Raise BadInput where ``others``, what the tensor refers to or its factors, do not fit."""

    @classmethod
    def multiplications(cls, signature: Signature, others: Sequence[Signature]) -> int:
        """Return the multiplications of decoding beyond a few for every element: their number in a file is limited."""
        return 0

    @classmethod
    @abstractmethod
    def assemble(cls, signature: Signature, fields: Any, symbols: Arrays, others: Sequence[Any]) -> Representation:
        """Return the tensor from what its methods above gave; BadInput where this cannot be."""

    @classmethod
    def line(cls, fields: Any) -> tuple[int, int] | None:
        """Return packed step and edge of codes on a plain grid, which native code decodes straight to numbers."""
        return None

    @classmethod
    def restore(cls, stored: NDArray[Any], fields: Any) -> bool:
        """Put what codes do not tell into elements decoded from them; return whether there is any."""
        return False

    # to numbers

    @abstractmethod
    def storage(self) -> NDArray[Any]:
        """Return the elements bit for bit: unsigned integers of the same width where numpy lacks the dtype.

        The array is read-only where its memory is the tensor's own.
        """

    def fingerprint(self) -> int:
        """Return what tells the elements from others (docs/format.md, section 6)."""
        return fingerprint(np.ascontiguousarray(self.storage()).reshape(-1).view(np.uint8))

    def decode(self) -> NDArray[Any]:
        """Return the tensor, writable; bfloat16 and float8 come as float32 holding exactly the same values."""
        return to_numpy(np.require(self.storage(), requirements="W"), self.dtype)

    # to people

    def zeros(self) -> int | None:
        """Return the number of elements that are zero; None for a tensor without elements of its own."""
        values = self.decode()
        return values.size - int(np.count_nonzero(values))  # which, unlike ==, takes any bits of NaN in silence

    @property
    def details(self) -> dict[str, Any]:
        """Properties that only this kind has, by name, as JSON can hold them."""
        return {}

    def __str__(self) -> str:
        return self.label


KINDS: dict[int, type[Representation]] = {}  # what files may hold, by number: the order of their columns
Kind = TypeVar("Kind", bound=type[Representation])


def register(kind: Kind) -> Kind:
    """Let files hold a kind, and return it: for use as a decorator; BadInput where another kind has its number."""
    known = KINDS.get(kind.number, kind)
    if known.label != kind.label or not 0 <= kind.number < 256:
        raise BadInput(f"kind {kind.label!r} has number {kind.number}: expected one of 0 to 255 that no other kind has")
    KINDS[kind.number] = kind
    for number in sorted(KINDS):
        KINDS[number] = KINDS.pop(number)
    return kind


class TensorOfCodes(Representation):
    """A tensor of ``codes`` (n,) int32, in one stream; subclasses say what a code means."""

    dtypes, holds = FLOATS, CODES

    codes: NDArray[np.int32]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        mine, theirs = ((item.fields, item.shape, item.dtype) for item in (self, other))
        return mine == theirs and np.array_equal(self.codes, other.codes)

    __hash__ = None  # type: ignore[assignment]  # arrays have no hash

    def symbols(self) -> Iterator[NDArray[Any]]:
        """Yield the codes."""
        yield self.codes

    def bounds(self) -> tuple[int, int]:
        """Return the smallest and the largest code, 0 and 0 without any; BadInput unless they fit the shape."""
        if self.codes.dtype != np.int32 or self.codes.shape != (self.size,):
            found = f"{self.codes.dtype} of {self.codes.shape}"
            raise BadInput(f"codes are {found}, expected int32 of {(self.size,)} for shape {self.shape}")
        return (int(self.codes.min()), int(self.codes.max())) if self.size else (0, 0)


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
