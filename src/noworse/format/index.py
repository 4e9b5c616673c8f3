"""What an index says, and the columns it is laid out in: names, kinds, shapes, streams, header fields, verdict.

A column holds one thing for all tensors, so that deflate meets like bytes together. Tensors that agree in kind, dtype,
shape and (constants) value share one *signature*; a network has few of those, and they repeat from layer to layer.
What deflate cannot shrink (digest, checksums, low bytes of step sizes) stands behind the deflated columns as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

from noworse.representation import KINDS, Representation, Signature, find_dtype
from noworse.representation.columns import varints

DIGEST_BYTES = 16
# stream numbers of a tensor: its own, its own with classes of rows and columns, and k + 2 for shared ones from k on
OWN, CLASSES, SHARED = range(3)


class Entry(NamedTuple):
    """One tensor of the file; a tuple, since a file may have a million of them."""

    name: str
    signature: Signature
    fields: Any = None  # of the kind's header
    target: int = 0  # number of the tensor that this one refers to, or of the first of its factors
    stream: int = OWN


@dataclass(frozen=True, slots=True)
class Stream:
    """One chunk of the data: a frequency table (None: plain bytes or context-coded codes follow) and blocks."""

    table: int | None  # bytes
    blocks: tuple[int, ...]  # bytes
    checksums: tuple[int, ...]  # crc32 per block; the first one covers the table as well
    in_context: bool = False  # codes without a table

    @property
    def nbytes(self) -> int:
        """Bytes of table and blocks."""
        return (self.table or 0) + sum(self.blocks)


@dataclass(frozen=True)
class Index:
    """All that a file says about its data; streams of their own come first, in file order, shared streams last.

    Behind the tensors with names stand the factors of others, in the order of what they make, which have none.
    """

    entries: Sequence[Entry]
    streams: Sequence[Stream]
    settings: bytes = b""  # as JSON, kept as a writer wrote it
    verdict: bytes = b""
    digest: bytes = bytes(DIGEST_BYTES)

    @cached_property
    def tensors(self) -> Sequence[Entry]:
        """The tensors with names."""
        return self.entries[: len(self.entries) - sum(entry.signature.kind.factors for entry in self.entries)]

    @cached_property
    def fields(self) -> list[tuple[type[Representation], bytes, bytes]]:
        """Kinds with header fields, those of their tensors as bytes that deflate may shrink, and as others."""
        kinds = ((kind, numbers_of(kind, [e.signature for e in self.entries])) for kind in KINDS if kind.column)
        return [(kind, *kind.pack([self.entries[i].fields for i in numbers])) for kind, numbers in kinds if numbers]


def numbers_of(kind: type[Representation], signatures: Sequence[Signature]) -> list[int]:
    """The numbers of the tensors that are of this kind."""
    return [i for i, signature in enumerate(signatures) if signature.kind.number == kind.number]


def columns(index: Index) -> Iterator[tuple[str, bytes]]:
    """The columns to deflate, in order, each with the category its bytes are attributed to."""
    entries = index.entries
    signatures = list(dict.fromkeys(entry.signature for entry in entries))
    numbers = {signature: number for number, signature in enumerate(signatures)}
    yield "names", _names([entry.name.encode() for entry in index.tensors])
    yield "shapes", _signatures(signatures) + varints(numbers[entry.signature] for entry in entries)
    yield "ties", varints(entry.target for entry in entries if entry.signature.kind.refers)
    yield "streams", varints(entry.stream for entry in entries if entry.signature.streams)
    yield from ((kind.column, data) for kind, data, _ in index.fields)
    yield "lengths", _table_lengths(index.streams) + _block_lengths(index.streams)
    for what, text in (("settings", index.settings), ("verdict", index.verdict)):
        yield what, varints([len(text)]) + text


def tail(index: Index) -> Iterator[tuple[str, bytes]]:
    """What follows the deflated columns, each part with its category."""
    yield from ((kind.column, data) for kind, _, data in index.fields if data)
    yield "checksums", b"".join(c.to_bytes(4, "little") for stream in index.streams for c in stream.checksums)
    yield "checksums", index.digest


def _names(names: Sequence[bytes]) -> bytes:
    """Front coding: the number of bytes shared with the name before, and the rest, closed by a zero byte."""
    shared, rest, before = [], bytearray(), b""
    for name in names:
        common = _common(before, name)
        shared.append(common)
        rest += name[common:] + b"\0"
        before = name
    return varints([len(names), *shared]) + bytes(rest)


def _common(a: bytes, b: bytes) -> int:
    """Number of first bytes that agree, by halving: names may have thousands."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if a[low:middle] == b[low:middle] else (low, middle - 1)
    return low


def _signatures(signatures: Sequence[Signature]) -> bytes:
    return (
        varints([len(signatures)])
        + bytes(s.kind.number << 5 | find_dtype(s.dtype).code for s in signatures)
        + bytes(len(s.shape) for s in signatures)
        + varints(extent for s in signatures for extent in s.shape)
        + b"".join(s.value for s in signatures)
    )


def _table_lengths(streams: Sequence[Stream]) -> bytes:
    """Lengths of tables plus one (a table may be empty); zero for plain bytes and for context-coded codes."""
    return varints(0 if stream.table is None else stream.table + 1 for stream in streams)


def _block_lengths(streams: Sequence[Stream]) -> bytes:
    """Lengths of coded blocks; those of plain bytes follow from the counts."""
    coded = (stream for stream in streams if stream.table is not None or stream.in_context)
    return varints(length for stream in coded for length in stream.blocks)
