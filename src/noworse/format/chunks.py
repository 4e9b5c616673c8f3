"""One stream of symbols to bytes and back: a frequency table, blocks, a checksum per block."""

import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.codec import BLOCK, Coded, Scales, _native, context, decode_into, encode
from noworse.errors import CorruptFile
from noworse.format import limits
from noworse.format.index import Stream
from noworse.representation import find_dtype
from noworse.representation.raw import MACHINE_WORDS, split


@dataclass(frozen=True)
class Chunk:
    """The bytes of a stream: its table (None: plain bytes or context-coded codes), and its blocks."""

    table: bytes | None
    blocks: Sequence[bytes | memoryview]
    in_context: bool = False

    @property
    def stream(self) -> Stream:
        """Lengths and checksums for the index."""
        lengths = tuple(map(len, self.blocks))
        table = None if self.table is None else len(self.table)
        return Stream(table, lengths, checksums(self.table or b"", self.blocks), self.in_context)


def checksums(table: bytes, blocks: Sequence[bytes | memoryview]) -> tuple[int, ...]:
    """Return the crc32 of each block, the first one continued from the table."""
    pieces = (np.frombuffer(block, np.uint8) for block in blocks)
    return tuple(_native.crc32(piece, zlib.crc32(table) if i == 0 else 0) for i, piece in enumerate(pieces))


def encode_codes(codes: NDArray[np.int32] | NDArray[np.uint8]) -> Chunk:
    """Return integer codes, entropy-coded."""
    encoded = encode(codes)
    return Chunk(encoded.table, encoded.blocks)


def encode_matrix(codes: NDArray[np.int32], columns: int) -> list[Chunk]:
    """Return codes of a matrix (0 columns: of none) as one chunk, or behind those of the scales of rows and columns."""
    encoded = encode(codes, columns)
    return [*map(encode_codes, encoded.scales or ()), Chunk(encoded.table, encoded.blocks)]


def estimate_matrix(codes: NDArray[np.int32], columns: int) -> Stream:
    """Return a stream of about the bytes that ``encode_matrix`` needs, found from entropies alone."""
    count = -(-codes.size // BLOCK)
    share = round(_native.estimated_bytes(codes, columns) / count)
    return Stream(0, (share,) * count, tuple(range(count)))


def encode_in_context(
    codes: NDArray[np.int32], shapes: Sequence[tuple[int, ...]], columns: int = 0, free: int = 0, worth: float = 0
) -> list[Chunk]:
    """Return codes of tensors of these shapes, context-coded, or as ``encode_matrix`` does where a limit asks it.

    So too where context coding does not save ``worth`` bytes per code; ``free`` codes may stand for no bytes at all.
    """
    chunk, plain = Chunk(None, context.encode(codes, shapes), True), encode_matrix(codes, columns)
    allowed = codes.size <= free + limits.SYMBOLS_PER_BYTE * chunk.stream.nbytes
    return [chunk] if allowed and _size(chunk) + worth * codes.size <= sum(map(_size, plain)) else plain


def encode_bytes(data: NDArray[np.uint8], each: int) -> Iterator[Chunk]:
    """Yield streams of ``each`` bytes, the last of fewer, entropy-coded where that is visibly smaller."""
    return _streams(data, each, _native.encode_bytes(data, each))


def encode_planes(stored: NDArray[Any], dtype: str) -> Iterator[Chunk]:
    """Yield the streams of byte planes of elements, each of a block; they last until the next plane is asked for."""
    width, is_float = find_dtype(dtype).itemsize, find_dtype(dtype).kind == "float"
    data = stored.reshape(-1).view(np.uint8)
    if width not in MACHINE_WORDS:
        for part in split(data.data, dtype):
            yield from encode_bytes(part, BLOCK)
        return
    room = np.empty(stored.size, np.uint8)
    for plane in range(width):
        yield from _streams(room, BLOCK, _native.encode_plane(data, width, plane, is_float, room, BLOCK))


def _streams(
    data: NDArray[np.uint8], each: int, streams: Sequence[tuple[bytes, list[bytes]] | None]
) -> Iterator[Chunk]:
    for start, coded in zip(range(0, data.size, each), streams, strict=True):
        own = data[start : start + each]
        yield Chunk(*coded) if coded else Chunk(None, [own[i : i + BLOCK].data for i in range(0, own.size, BLOCK)])


def _size(chunk: Chunk) -> int:
    coded = chunk.table is not None or chunk.in_context  # lengths of blocks stand in the index
    return len(chunk.table or b"") + sum(map(len, chunk.blocks)) + 2 * coded * len(chunk.blocks)


def entropy(counts: NDArray[Any]) -> float:
    """Return bits per symbol of a histogram, corrected for its finite sample (Miller 1955)."""
    used = counts[counts > 0].astype(np.float64)
    total = float(used.sum())
    return float(np.log2(total) - used @ np.log2(used) / total + (used.size - 1) / (2 * math.log(2) * total))


def decode_chunk(
    data: bytes | memoryview,
    stream: Stream,
    is_bytes: bool,
    shapes: Sequence[tuple[int, ...]],
    scales: Scales | None = None,
) -> NDArray[Any]:
    """Return the symbols of a stream, as int32 codes or as uint8; CorruptFile where a checksum differs.

    ``shapes`` are those of its tensors, which context-coded ones depend on.
    """
    if stream.table is not None:
        out = np.empty(sum(map(math.prod, shapes)), np.uint8 if is_bytes else np.int32)
        decode_into(as_coded(data, stream, scales), out)
        return out
    ends = list(accumulate(stream.blocks, initial=0))
    blocks = [memoryview(data)[start:end] for start, end in pairwise(ends)]
    for number, (found, expected) in enumerate(zip(checksums(b"", blocks), stream.checksums, strict=True)):
        if found != expected:
            raise CorruptFile(f"block {number} is damaged: its crc32 is {found:08x}, expected {expected:08x}")
    return context.decode(blocks, shapes) if stream.in_context else np.frombuffer(data, np.uint8)


def as_coded(data: bytes | memoryview, stream: Stream, scales: Scales | None) -> Coded:
    """Return a stream as the coder takes it."""
    return Coded(data, stream.table, stream.blocks, stream.checksums, scales)
