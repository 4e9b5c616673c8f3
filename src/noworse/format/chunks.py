"""One stream of symbols to bytes and back: a frequency table, blocks, a checksum per block."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.codec import BLOCK, Coded, Scales, context, decode_into, encode
from noworse.errors import CorruptFile
from noworse.format import limits
from noworse.format.index import Stream

SAMPLE = 1 << 15  # bytes looked at to tell noise ..
RUN = 64  # .. in runs that share a line of the cache
NOISE = 0.0125  # share saved below which coding is not tried: it would only slow readers down
TABLE_BYTES = 0.3  # estimated per symbol of a table


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
    """crc32 per block, the first one continued from the table."""
    return tuple(zlib.crc32(block, zlib.crc32(table) if i == 0 else 0) for i, block in enumerate(blocks))


def encode_codes(codes: NDArray[np.int32] | NDArray[np.uint8]) -> Chunk:
    """Integer codes, entropy-coded."""
    encoded = encode(codes)
    return Chunk(encoded.table, encoded.blocks)


def encode_matrix(codes: NDArray[np.int32], columns: int) -> list[Chunk]:
    """Codes of a matrix (0 columns: of none): one chunk, or those of the scales of rows and columns before it."""
    encoded = encode(codes, columns)
    return [*map(encode_codes, encoded.scales or ()), Chunk(encoded.table, encoded.blocks)]


def encode_in_context(codes: NDArray[np.int32], shapes: Sequence[tuple[int, ...]], free: int = 0) -> Chunk:
    """The codes of tensors of these shapes, context-coded, or with a table where that is smaller or a limit asks it.

    ``free`` codes may stand for no bytes at all.
    """
    blocks = context.encode(codes, shapes)
    chunk, plain = Chunk(None, blocks, True), encode_codes(codes)
    allowed = codes.size <= free + limits.SYMBOLS_PER_BYTE * sum(map(len, blocks))
    return chunk if allowed and _size(chunk) <= _size(plain) else plain


def encode_bytes(data: NDArray[np.uint8]) -> Chunk:
    """Bytes, entropy-coded where that is smaller than as they are."""
    plain = Chunk(None, [data[i : i + BLOCK].data for i in range(0, data.size, BLOCK)])
    if not _promising(data):
        return plain
    coded = encode_codes(data)
    return coded if _size(coded) < _size(plain) else plain


def _size(chunk: Chunk) -> int:
    plain = chunk.table is None and not chunk.in_context
    lengths = 0 if plain else 2 * len(chunk.blocks)  # of coded blocks, in the index
    return len(chunk.table or b"") + sum(map(len, chunk.blocks)) + lengths


def _promising(data: NDArray[np.uint8]) -> bool:
    """Whether a sample of the bytes says that coding them saves more than a table costs.

    The entropy estimate is corrected for the size of the sample (Miller 1955), or noise would look compressible.
    """
    sample = data
    if data.size > SAMPLE:
        apart = data.size // (SAMPLE // RUN)
        sample = data[: data.size // apart * apart].reshape(-1, apart)[:, :RUN].reshape(-1)
    counts = np.bincount(sample)
    counts = counts[counts > 0]
    share = counts / sample.size
    bits = -(share * np.log2(share)).sum() + (counts.size - 1) / (2 * math.log(2) * sample.size)
    return bool(data.size * (1 - bits / 8) > max(NOISE * data.size, TABLE_BYTES * counts.size))


def decode_chunk(
    data: bytes, stream: Stream, is_bytes: bool, shapes: Sequence[tuple[int, ...]], scales: Scales | None = None
) -> NDArray[Any]:
    """The symbols of a stream, as int32 codes or as uint8; CorruptFile where a checksum differs.

    ``shapes`` are those of its tensors, which context-coded ones depend on.
    """
    count = sum(map(math.prod, shapes))
    if stream.table is None:
        ends = list(accumulate(stream.blocks, initial=0))
        blocks = [memoryview(data)[start:end] for start, end in pairwise(ends)]
        _check(stream, blocks)
        if stream.in_context:
            return context.decode(blocks, shapes)
        return np.frombuffer(data, np.uint8)
    out = np.empty(count, np.uint8 if is_bytes else np.int32)
    decode_into(as_coded(data, stream, scales), out)
    return out


def as_coded(data: bytes, stream: Stream, scales: Scales | None) -> Coded:
    """A stream with a table, as the coder takes it."""
    return Coded(data, stream.table or 0, stream.blocks, stream.checksums, scales)


def _check(stream: Stream, blocks: Sequence[bytes | memoryview]) -> None:
    for number, (found, expected) in enumerate(zip(checksums(b"", blocks), stream.checksums, strict=True)):
        if found != expected:
            raise CorruptFile(f"block {number} is damaged: its crc32 is {found:08x}, expected {expected:08x}")
