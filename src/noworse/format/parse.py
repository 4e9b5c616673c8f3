"""From the bytes of an index back to what they say, with every limit checked before anything is allocated."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator, Sequence
from typing import Any

from noworse.codec import BLOCK
from noworse.errors import BadInput, CorruptFile
from noworse.format import limits
from noworse.format.chunks import most_in_context
from noworse.format.columns import Cursor
from noworse.format.dictionary import DICTIONARY
from noworse.format.index import CONSTANT, DIGEST_BYTES, GRID, OWN, TIED, Entry, Index, Signature, Stream
from noworse.format.layout import Layout, Use, lay_out
from noworse.representation.base import checked_shape
from noworse.representation.dtypes import BY_CODE
from noworse.representation.grid import FLOATS


def parse(data: bytes, raw_length: int, max_bytes: int) -> tuple[Index, Layout]:
    """Read an index whose checksum was verified; CorruptFile for whatever a correct writer would not write."""
    text, tail = _inflate(data, raw_length)
    cursor = Cursor(text)
    names = _names(cursor)
    signatures = _signatures(cursor)
    numbers = cursor.varints(len(names), "signatures of tensors")
    _check_total(signatures, numbers, max_bytes)
    entries = _entries(cursor, names, [signatures[number] for number in numbers])
    grids = [i for i, entry in enumerate(entries) if entry.signature.kind == GRID]
    high = cursor.take(len(grids), "step sizes")
    edges = cursor.take(len(grids), "edges")
    layout = lay_out(entries, cursor.left)
    lengths = cursor.varints(len(layout.uses), "lengths of tables")
    tables = [length - 1 if length else None for length in lengths]
    _check_tables(tables, layout.uses)
    blocks = [_blocks(cursor, table, use) for table, use in zip(tables, layout.uses, strict=True)]
    settings = _json(cursor, "settings") or {}
    verdict = _json(cursor, "verdict")
    if cursor.left:
        raise CorruptFile(f"{cursor.left} bytes follow the last column of the index, expected none")
    ends = Cursor(tail)
    low = ends.take(len(grids), "step sizes")
    checksums = _checksums(ends, blocks)
    digest = ends.take(DIGEST_BYTES, "the digest")
    if ends.left:
        raise CorruptFile(f"{ends.left} bytes follow the digest of the index, expected none")
    for i, h, w, e in zip(grids, high, low, edges, strict=True):
        entries[i] = Entry(entries[i].name, entries[i].signature, h << 8 | w, e, stream=entries[i].stream)
    in_context = [table is None and not use.is_bytes for table, use in zip(tables, layout.uses, strict=True)]
    streams = [Stream(*parts) for parts in zip(tables, blocks, checksums, in_context, strict=True)]
    return Index(entries, streams, settings, verdict, digest), layout


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


def _names(cursor: Cursor) -> list[str]:
    count = cursor.varint("the number of tensors")
    if count > limits.TENSORS:
        raise CorruptFile(f"{count} tensors, expected at most {limits.TENSORS}")
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


def _signatures(cursor: Cursor) -> list[Signature]:
    count = cursor.varint("the number of signatures")
    kinds, dims = cursor.take(count, "kinds"), cursor.take(count, "dimensions")
    shapes = [_shape(cursor, dim) for dim in dims]
    return [_signature(cursor, code, shape) for code, shape in zip(kinds, shapes, strict=True)]


def _shape(cursor: Cursor, dims: int) -> tuple[int, ...]:
    try:
        return checked_shape(cursor.varints(dims, "shapes"))
    except BadInput as error:
        raise CorruptFile(str(error)) from error


def _signature(cursor: Cursor, code: int, shape: tuple[int, ...]) -> Signature:
    kind, dtype = code >> 5, BY_CODE.get(code & 31)
    if kind > TIED or dtype is None:
        raise CorruptFile(
            f"kind {kind} of dtype {code & 31}, expected kinds up to {TIED} and dtypes up to {max(BY_CODE)}"
        )
    if kind == GRID and dtype.name not in FLOATS:
        raise CorruptFile(f"a grid of dtype {dtype.name}, expected one of {', '.join(FLOATS)}")
    value = cursor.take(dtype.itemsize, "constants") if kind == CONSTANT else b""
    return Signature(kind, dtype.name, shape, value)


def _check_total(signatures: Sequence[Signature], numbers: Sequence[int], max_bytes: int) -> None:
    if numbers and max(numbers) >= len(signatures):
        raise CorruptFile(f"a tensor has signature {max(numbers)}, expected less than {len(signatures)}")
    total = sum(signatures[number].nbytes for number in numbers)
    if total > max_bytes:
        raise CorruptFile(f"the tensors take {total} bytes when decoded, more than max_bytes={max_bytes} allows")


def _entries(cursor: Cursor, names: Sequence[str], signatures: Sequence[Signature]) -> list[Entry]:
    targets = iter(cursor.varints(sum(s.kind == TIED for s in signatures), "ties"))
    streams = iter(cursor.varints(sum(s.streams > 0 for s in signatures), "streams"))
    entries = []
    for name, signature in zip(names, signatures, strict=True):
        target = next(targets) if signature.kind == TIED else 0
        stream = next(streams) if signature.streams else OWN
        entries.append(Entry(name, signature, target=target, stream=stream))
        if signature.kind == TIED:
            _check_tie(name, signature, target, signatures)
    return entries


def _check_tie(name: str, signature: Signature, target: int, signatures: Sequence[Signature]) -> None:
    if target >= len(signatures):
        raise CorruptFile(f"tensor {name!r} is tied to tensor {target} of {len(signatures)}")
    other = signatures[target]
    if other.kind == TIED or (other.shape, other.dtype) != (signature.shape, signature.dtype):
        raise CorruptFile(f"tensor {name!r} of {signature.dtype} {signature.shape} is tied to one that is itself tied"
                          f" or of another shape: {other.dtype} {other.shape}")  # fmt: skip


def _check_tables(tables: Sequence[int | None], uses: Sequence[Use]) -> None:
    """Scales and what they are for are never context-coded."""
    behind = [False, *(use.scales for use in uses)]
    for table, use, follows in zip(tables, uses, behind, strict=False):
        if table is None and (use.scales or follows):
            raise CorruptFile("a stream with classes has no table")


def _blocks(cursor: Cursor, table: int | None, use: Use) -> tuple[int, ...]:
    if table is not None or not use.is_bytes:
        lengths = tuple(cursor.varints(use.blocks, "lengths of blocks"))
        if table is None and use.count > (most := most_in_context(sum(lengths))):
            raise CorruptFile(
                f"{sum(lengths)} bytes of context-coded symbols stand for {use.count}, at most {most} allowed"
            )
        return lengths
    if use.blocks > limits.INDEX_BYTES // 4:  # their checksums alone would not fit
        raise CorruptFile(f"a stream of {use.blocks} blocks does not fit an index of {limits.INDEX_BYTES} bytes")
    return tuple(min(BLOCK, use.count - start) for start in range(0, use.count, BLOCK))


def _checksums(tail: Cursor, blocks: Sequence[tuple[int, ...]]) -> Iterator[tuple[int, ...]]:
    needed = 4 * sum(map(len, blocks))
    words = memoryview(tail.take(needed, "checksums"))
    values = iter([int.from_bytes(words[at : at + 4], "little") for at in range(0, needed, 4)])
    return iter([tuple(next(values) for _ in lengths) for lengths in blocks])


def _json(cursor: Cursor, what: str) -> dict[str, Any] | None:
    text = cursor.take(cursor.varint(what), what)
    if not text:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptFile(f"the {what} are no JSON: {error}") from error
    if not isinstance(value, dict):
        raise CorruptFile(f"the {what} are a JSON {type(value).__name__}, expected an object")
    return value
