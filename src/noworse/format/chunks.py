"""One stream of symbols to bytes and back: a frequency table, blocks, a checksum per block."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.codec import BLOCK, decode, encode
from noworse.errors import CorruptFile
from noworse.format.index import Stream

SAMPLE = 1 << 16  # bytes looked at to tell noise
NOISE_BITS = 7.9  # entropy per byte above which coding is not tried


@dataclass(frozen=True)
class Chunk:
    """The bytes of a stream: its table (empty: plain bytes), and its blocks."""

    table: bytes
    blocks: Sequence[bytes]

    @property
    def stream(self) -> Stream:
        """Lengths and checksums for the index."""
        lengths = tuple(map(len, self.blocks))
        return Stream(len(self.table), lengths, checksums(self.table, self.blocks))


def checksums(table: bytes, blocks: Sequence[bytes]) -> tuple[int, ...]:
    """crc32 per block, the first one continued from the table."""
    return tuple(zlib.crc32(block, zlib.crc32(table) if i == 0 else 0) for i, block in enumerate(blocks))


def encode_codes(codes: NDArray[np.int32]) -> Chunk:
    """Integer codes, entropy-coded."""
    encoded = encode(codes)
    return Chunk(encoded.table, encoded.blocks)


def encode_bytes(data: NDArray[np.uint8]) -> Chunk:
    """Bytes, entropy-coded where that is smaller than as they are."""
    plain = Chunk(b"", [data[i : i + BLOCK].tobytes() for i in range(0, data.size, BLOCK)])
    if _entropy(data[:: max(1, data.size // SAMPLE)]) > NOISE_BITS:
        return plain
    coded = encode_codes(data.astype(np.int32))
    return coded if _size(coded) < _size(plain) else plain


def _size(chunk: Chunk) -> int:
    lengths = 2 * len(chunk.blocks) if chunk.table else 0  # of coded blocks, in the index
    return len(chunk.table) + sum(map(len, chunk.blocks)) + lengths


def _entropy(sample: NDArray[np.uint8]) -> float:
    """Bits per byte; an estimate from few bytes is low, which errs towards trying."""
    counts = np.bincount(sample)
    share = counts[counts > 0] / sample.size
    return float(-(share * np.log2(share)).sum())


def decode_chunk(data: bytes, stream: Stream, count: int, is_bytes: bool) -> NDArray[Any]:
    """The ``count`` symbols of a stream, as int32 codes or as uint8; CorruptFile where a checksum differs."""
    table, blocks, position = data[: stream.table], [], stream.table
    for length in stream.blocks:
        blocks.append(data[position : position + length])
        position += length
    for number, (found, expected) in enumerate(zip(checksums(table, blocks), stream.checksums, strict=True)):
        if found != expected:
            raise CorruptFile(f"block {number} is damaged: its crc32 is {found:08x}, expected {expected:08x}")
    if not table:
        return np.frombuffer(b"".join(blocks), np.uint8)
    symbols = decode(table, blocks, count)
    if not is_bytes:
        return symbols
    if int(symbols.min()) < 0 or int(symbols.max()) > 255:
        raise CorruptFile(f"a stream of bytes holds values from {symbols.min()} to {symbols.max()}")
    return symbols.astype(np.uint8)
