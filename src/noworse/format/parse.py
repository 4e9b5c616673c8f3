"""From the bytes of an index back to what they say, and to which symbols of which streams belong to which tensor.

Every limit is checked before anything is allocated.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import numpy as np

from noworse.codec import BLOCK
from noworse.errors import BadInput, CorruptFile
from noworse.format import limits
from noworse.format.index import (
    DICTIONARY,
    DIGEST_BYTES,
    FURTHER,
    OWN,
    SEVERAL,
    SHARED,
    Entry,
    Index,
    Stream,
    numbers_of,
)
from noworse.representation import BYTES, CODES, KINDS, Signature
from noworse.representation.base import checked_shape
from noworse.representation.columns import Cursor
from noworse.representation.dtypes import BY_CODE


@dataclass(slots=True)
class Use:
    """One stream: what it holds (bytes, or scales, or else codes), and the numbers of the tensors in it, in order.

    ``width`` is the number of streams that its tensors lie in.
    """

    is_bytes: bool
    shared: bool
    width: int = 1
    scales: bool = False  # of the rows or columns of the codes in one of the next two streams
    count: int = 0  # symbols
    tensors: list[int] = field(default_factory=list)

    @property
    def blocks(self) -> int:
        """Number of blocks, each of ``BLOCK`` symbols except the last."""
        return -(-self.count // BLOCK)


class Span(NamedTuple):
    """Where a tensor's elements lie: ``start`` counts symbols in its first stream and in the planes that follow.

    With ``classes`` the two streams before the first one hold the scales of its rows and columns. Each plane lies in so
    many ``pieces``, one stream after the other.
    """

    first: int
    start: int
    classes: bool = False
    pieces: int = 1


def lay_out(entries: Sequence[Entry], most: int) -> tuple[list[Use], list[Span]]:
    """Return the streams in file order, own ones before shared ones, and the span of every tensor.

    CorruptFile where sharing makes no sense, or for more than ``most`` streams or blocks.
    """
    own: list[Use] = []
    shared: dict[int, Use] = {}
    placed: list[tuple[bool, Span]] = []  # whether shared; the first stream's number is that among its like
    for number, entry in enumerate(entries):
        if len(own) + len(shared) > most:
            raise CorruptFile(f"more than {most} streams, for whose checksums or description there is no room")
        width, is_bytes = entry.signature.streams, entry.signature.kind.holds == BYTES
        if entry.stream < SHARED:
            several = entry.stream == SEVERAL
            own += _scales(entry.name, entry.signature, number) if several and not is_bytes else []
            counts = _pieces(entry.name, entry.signature, most) if several and is_bytes else [entry.signature.size]
            placed.append((False, Span(len(own), 0, several and not is_bytes, len(counts))))
            own += [
                Use(is_bytes, False, width, count=count, tensors=[number]) for _ in range(width) for count in counts
            ]
            continue
        first = entry.stream - SHARED
        planes = [shared.setdefault(first + i, Use(is_bytes, True, width)) for i in range(width)]
        if any((p.is_bytes, p.width, p.count) != (is_bytes, width, planes[0].count) for p in planes):
            raise CorruptFile(f"tensor {entry.name!r} shares a stream with tensors of another kind")
        placed.append((True, Span(first, planes[0].count)))
        for plane in planes:
            plane.count += entry.signature.size
            plane.tensors.append(number)
    if shared and max(shared) != len(shared) - 1:
        raise CorruptFile(f"a tensor uses shared stream {max(shared)}, expected numbers up to {len(shared) - 1}")
    blocks = sum(use.blocks for use in [*own, *shared.values()])
    if blocks > most:
        raise CorruptFile(f"{blocks} blocks in {len(own) + len(shared)} streams, expected at most {most}")
    uses = own + [shared[number] for number in range(len(shared))]
    spans = [span._replace(first=span.first + len(own)) if is_shared else span for is_shared, span in placed]
    return uses, spans


def _scales(name: str, signature: Signature, number: int) -> list[Use]:
    """The streams of scales before the codes of a tensor: one symbol per row, one per column."""
    if signature.kind.holds != CODES or not signature.columns:
        raise CorruptFile(f"tensor {name!r} of shape {signature.shape} has classes, expected codes of a matrix")
    counts = signature.shape[0], signature.columns
    return [Use(False, False, scales=True, count=count, tensors=[number]) for count in counts]


def _pieces(name: str, signature: Signature, most: int) -> list[int]:
    """The symbols in every stream of a plane that has one for each block."""
    if signature.size <= BLOCK:
        raise CorruptFile(f"tensor {name!r} of shape {signature.shape} has a stream for each block, expected several")
    count = -(-signature.size // BLOCK)
    if count * signature.streams > most:
        raise CorruptFile(f"{count * signature.streams} streams of tensor {name!r}, expected at most {most}")
    return [BLOCK] * (count - 1) + [signature.size - BLOCK * (count - 1)]


def parse(data: bytes, raw_length: int, max_bytes: int, file_size: int) -> tuple[Index, list[Use], list[Span]]:
    """Return what an index says, and its streams and spans; CorruptFile for what a correct writer would not write."""
    try:
        return _parse(data, raw_length, max_bytes, file_size)
    except BadInput as error:  # of kinds that tell what they cannot be
        raise CorruptFile(str(error)) from error


def _parse(data: bytes, raw_length: int, max_bytes: int, file_size: int) -> tuple[Index, list[Use], list[Span]]:
    text, tail = _inflate(data, raw_length)
    cursor, ends = Cursor(text), Cursor(tail)
    most = limits.described_items(max_bytes, file_size)
    names = _names(cursor, most)
    entries = _entries(cursor, ends, names, _chosen(cursor, names, most, max_bytes))
    uses, spans = lay_out(entries, min(most, ends.left // 4))  # every stream has blocks, every block a checksum
    streams = _streams(cursor, ends, uses)
    _check_multiplications(entries, streams)
    settings, verdict = (cursor.take(cursor.varint(what), what) for what in ("settings", "verdict"))
    if cursor.left:
        raise CorruptFile(f"{cursor.left} bytes follow the last column of the index, expected none")
    digest = ends.take(DIGEST_BYTES, "the digest")
    if ends.left:
        raise CorruptFile(f"{ends.left} bytes follow the digest of the index, expected none")
    return Index(entries, streams, settings, verdict, digest), uses, spans


def _inflate(data: bytes, raw_length: int) -> tuple[bytes, bytes]:
    """The columns and the tail behind them."""
    if raw_length > limits.INDEX_BYTES:
        raise CorruptFile(f"an index of {raw_length} bytes, expected at most {limits.INDEX_BYTES}")
    inflater = zlib.decompressobj(-zlib.MAX_WBITS, DICTIONARY)
    try:
        text = inflater.decompress(data, raw_length + 1)  # one more than announced tells a bomb from an honest index
    except zlib.error as error:
        raise CorruptFile(f"the index cannot be inflated: {error}") from error
    if len(text) != raw_length or not inflater.eof:
        raise CorruptFile(f"the index inflates to {len(text)} bytes or more, expected exactly {raw_length}")
    return text, inflater.unused_data


def _names(cursor: Cursor, most: int) -> list[str]:
    count = cursor.varint("the number of tensors")
    most = min(most, limits.TENSORS)
    if count > most:
        raise CorruptFile(f"{count} tensors, expected at most {most} within max_bytes and a file of this size")
    names: dict[str, None] = {}
    before, total = b"", 0
    for shared in cursor.varints(count, "names"):
        if shared > len(before):
            raise CorruptFile(f"a name shares {shared} bytes with one of {len(before)}")
        before = before[:shared] + cursor.until(b"\0", "names")
        total += len(before)
        if len(before) > limits.NAME_BYTES or total > limits.NAMES_BYTES:
            raise CorruptFile(f"a name of {len(before)} bytes, {total} in all: expected at most {limits.NAME_BYTES}"
                              f" and {limits.NAMES_BYTES}")  # fmt: skip
        try:
            name = before.decode()
        except UnicodeDecodeError as error:
            raise CorruptFile(f"a name is not UTF-8: {before!r}") from error
        if name in names:
            raise CorruptFile(f"two tensors are called {name!r}")
        names[name] = None
    return list(names)


def _chosen(cursor: Cursor, names: Sequence[str], most: int, max_bytes: int) -> list[Signature]:
    """The signatures of the tensors with names, then those of the factors of others."""
    signatures = _signatures(cursor, len(names))
    numbers = cursor.varints(len(names), "signatures of tensors")
    _check_total(signatures, numbers, max_bytes)
    factors = sum(signatures[number].kind.factors for number in numbers)
    if len(names) + factors > min(most, limits.TENSORS):
        raise CorruptFile(f"{len(names)} tensors and {factors} factors, more than {min(most, limits.TENSORS)}")
    numbers += cursor.varints(factors, "signatures of factors")
    _check_total(signatures, numbers, max_bytes)
    return [signatures[number] for number in numbers]


def _signatures(cursor: Cursor, tensors: int) -> list[Signature]:
    count = cursor.varint("the number of signatures")
    if count > (1 + max(kind.factors for kind in KINDS.values())) * tensors:
        raise CorruptFile(f"{count} signatures of {tensors} tensors, expected at most one each and of their factors")
    codes = cursor.take(count, "kinds")
    further = iter(cursor.take(2 * codes.count(FURTHER), "kinds"))
    kinds = [(next(further), next(further)) if code == FURTHER else (code >> 5, code & 31) for code in codes]
    if any(code == FURTHER and number < 8 for code, (number, _) in zip(codes, kinds, strict=True)):
        raise CorruptFile("a kind below 8 takes more bytes than it needs")
    dims = cursor.take(count, "dimensions")
    extents = iter(cursor.varints(sum(dims), "shapes"))
    shapes = [checked_shape(list(islice(extents, dim))) for dim in dims]
    return [_signature(cursor, *pair, shape) for pair, shape in zip(kinds, shapes, strict=True)]


def _signature(cursor: Cursor, number: int, code: int, shape: tuple[int, ...]) -> Signature:
    kind, dtype = KINDS.get(number), BY_CODE.get(code)
    if kind is None or dtype is None:
        most = f"kinds up to {max(KINDS)} and dtypes up to {max(BY_CODE)}"
        raise CorruptFile(f"kind {number} of dtype {code}, expected {most}")
    if dtype.name not in kind.dtypes:
        raise CorruptFile(f"a {kind.label} of dtype {dtype.name}, expected one of {', '.join(kind.dtypes)}")
    return Signature(kind, dtype.name, shape, cursor.take(kind.value_bytes(dtype), "constants and splits"))


def _check_total(signatures: Sequence[Signature], numbers: Sequence[int], max_bytes: int) -> None:
    if numbers and max(numbers) >= len(signatures):
        raise CorruptFile(f"a tensor has signature {max(numbers)}, expected less than {len(signatures)}")
    sizes = [signature.nbytes for signature in signatures]
    total = sum(sizes[number] for number in numbers)
    if total > max_bytes:
        raise CorruptFile(f"the tensors take {total} bytes when decoded, more than max_bytes={max_bytes} allows")


def _entries(cursor: Cursor, tail: Cursor, names: Sequence[str], signatures: Sequence[Signature]) -> list[Entry]:
    """What the columns of targets, streams and header fields say of tensors with these signatures."""
    targets = iter(cursor.varints(sum(s.kind.refers for s in signatures), "ties"))
    streams = iter(cursor.varints(sum(s.streams > 0 for s in signatures), "streams"))
    fields = _fields(cursor, tail, signatures)
    entries, factor = [], len(names)
    for number, signature in enumerate(signatures):
        name, target, others = names[number] if number < len(names) else "", 0, 0
        if signature.kind.refers:
            target, others = next(targets), 1
            if target >= len(names):
                raise CorruptFile(f"tensor {name!r} is tied to tensor {target} of {len(names)}")
        elif signature.kind.factors:
            target, others = factor, signature.kind.factors
            factor += others
        stream = next(streams) if signature.streams else OWN
        entries.append(Entry(name, signature, fields.get(number), target, stream))
        if others:
            try:
                signature.kind.check(signature, signatures[target : target + others])
            except BadInput as error:
                raise CorruptFile(f"tensor {name!r}: {error}") from error
    return entries


def _fields(cursor: Cursor, tail: Cursor, signatures: Sequence[Signature]) -> dict[int, Any]:
    """Header fields by number of the tensor."""
    fields: dict[int, Any] = {}
    for kind in KINDS.values():
        if kind.column:
            numbers = numbers_of(kind, signatures)
            fields |= zip(numbers, kind.unpack(cursor, tail, [signatures[i] for i in numbers]), strict=True)
    return fields


def _check_multiplications(entries: Sequence[Entry], streams: Sequence[Stream]) -> None:
    """The time that all products take together is bounded by the size of the data."""
    work = 0
    for _, own, _, target, _ in entries:
        if count := own.kind.factors:
            work += own.kind.multiplications(own, [other.signature for other in entries[target : target + count]])
    most = limits.FREE_PRODUCTS + limits.PRODUCTS_PER_BYTE * sum(stream.nbytes for stream in streams)
    if work > most:
        raise CorruptFile(f"products of {work} multiplications, expected at most {most} for the data of this file")


def _streams(cursor: Cursor, tail: Cursor, uses: Sequence[Use]) -> list[Stream]:
    """Lengths and checksums; ``uses`` are no more than the tail has room for."""
    tables = [length - 1 if length else None for length in cursor.varints(len(uses), "lengths of tables")]
    behind = [False, *(use.scales for use in uses)]
    if any(table is None and (use.scales or after) for table, use, after in zip(tables, uses, behind, strict=False)):
        raise CorruptFile("a stream with classes has no table")
    plain = [table is None and use.is_bytes for table, use in zip(tables, uses, strict=True)]
    coded = sum(use.blocks for is_plain, use in zip(plain, uses, strict=True) if not is_plain)
    lengths = iter(cursor.varints(coded, "lengths of blocks"))
    words = tail.take(4 * sum(use.blocks for use in uses), "checksums")
    checksums = iter(np.frombuffer(words, "<u4").tolist())
    streams = []
    for table, use, is_plain in zip(tables, uses, plain, strict=True):
        bytes_ = (min(BLOCK, use.count - start) for start in range(0, use.count, BLOCK))
        blocks = tuple(islice(bytes_ if is_plain else lengths, use.blocks))
        in_context = table is None and not is_plain
        streams.append(Stream(table, blocks, tuple(islice(checksums, use.blocks)), in_context))
    _check_contexts(streams, uses)
    return streams


def _check_contexts(streams: Sequence[Stream], uses: Sequence[Use]) -> None:
    """The time that all context-coded streams take together is bounded by their size."""
    nbytes = sum(stream.nbytes for stream in streams if stream.in_context)
    count = sum(use.count for stream, use in zip(streams, uses, strict=True) if stream.in_context)
    if count > (most := limits.FREE_SYMBOLS + limits.SYMBOLS_PER_BYTE * nbytes):
        raise CorruptFile(f"{nbytes} bytes of context-coded streams stand for {count} codes, expected at most {most}")
