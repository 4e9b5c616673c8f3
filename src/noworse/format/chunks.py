"""One stream of symbols to bytes and back: a frequency table, blocks, a checksum per block."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.codec import BLOCK, decode, decode_octets, encode, encode_octets
from noworse.errors import CorruptFile
from noworse.format.index import Stream

SAMPLE = 1 << 15  # bytes looked at to tell noise ..
RUN = 64  # .. in runs that share a line of the cache
NOISE = 0.0125  # share saved below which coding is not tried: it would only slow readers down
TABLE_BYTES = 0.3  # estimated per symbol of a table


@dataclass(frozen=True)
class Chunk:
    """The bytes of a stream: its table (None: plain bytes), and its blocks."""

    table: bytes | None
    blocks: Sequence[bytes | memoryview]

    @property
    def stream(self) -> Stream:
        """Lengths and checksums for the index."""
        lengths = tuple(map(len, self.blocks))
        table = None if self.table is None else len(self.table)
        return Stream(table, lengths, checksums(self.table or b"", self.blocks))


def checksums(table: bytes, blocks: Sequence[bytes | memoryview]) -> tuple[int, ...]:
    """crc32 per block, the first one continued from the table."""
    return tuple(zlib.crc32(block, zlib.crc32(table) if i == 0 else 0) for i, block in enumerate(blocks))


def encode_codes(codes: NDArray[np.int32]) -> Chunk:
    """Integer codes, entropy-coded."""
    encoded = encode(codes)
    return Chunk(encoded.table, encoded.blocks)


def encode_bytes(data: NDArray[np.uint8]) -> Chunk:
    """Bytes, entropy-coded where that is smaller than as they are."""
    plain = Chunk(None, [data[i : i + BLOCK].data for i in range(0, data.size, BLOCK)])
    if not _promising(data):
        return plain
    encoded = encode_octets(data)
    coded = Chunk(encoded.table, encoded.blocks)
    return coded if _size(coded) < _size(plain) else plain


def _size(chunk: Chunk) -> int:
    lengths = 0 if chunk.table is None else 2 * len(chunk.blocks)  # of coded blocks, in the index
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


def decode_chunk(data: bytes, stream: Stream, count: int, is_bytes: bool) -> NDArray[Any]:
    """The ``count`` symbols of a stream, as int32 codes or as uint8; CorruptFile where a checksum differs."""
    position = stream.table or 0
    table, view, blocks = data[:position], memoryview(data), []
    for length in stream.blocks:
        blocks.append(view[position : position + length])
        position += length
    for number, (found, expected) in enumerate(zip(checksums(table, blocks), stream.checksums, strict=True)):
        if found != expected:
            raise CorruptFile(f"block {number} is damaged: its crc32 is {found:08x}, expected {expected:08x}")
    if stream.table is None:
        return np.frombuffer(data, np.uint8)
    return decode_octets(table, blocks, count) if is_bytes else decode(table, blocks, count)
