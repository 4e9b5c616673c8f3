"""Streams of bytes under the coder of integers, one block at a time.

A block of bytes is widened to the coder's integers in a buffer that stays in the processor's cache, so a stream costs
no memory beyond its own bytes and its coded blocks.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from noworse.codec import _native
from noworse.codec.rans import BLOCK, Encoded, decode, encode
from noworse.codec.tables import constant, parse
from noworse.errors import CorruptFile

SHORT = 1 << 12  # bytes below which the smallest table is searched for
_NONE = np.zeros(0, np.int64)


def encode_octets(data: NDArray[np.uint8]) -> Encoded:
    """Bytes (n,) as table and blocks, the format being that of ``rans.encode``."""
    if data.size < SHORT:
        return encode(data.astype(np.int32))
    from noworse.codec.fit import Histogram, fit_fast  # readers of files do not need it

    starts = range(0, data.size, BLOCK)
    buffer = np.empty(min(BLOCK, data.size), np.int32)

    def widened(start: int) -> NDArray[np.int32]:
        part = buffer[: min(BLOCK, data.size - start)]
        np.copyto(part, data[start : start + BLOCK])
        return part

    low, high = int(data.min()), int(data.max())
    if low == high:
        return Encoded(constant(low), (b"",) * len(starts))
    counts = np.zeros(high - low + 1, np.uint64)
    for start in starts:
        counts += _native.histogram(widened(start), low, counts.size)[0]
    table = fit_fast(Histogram(low, counts, _NONE, _NONE)).to_bytes()
    t = parse(table)
    coded = (_native.encode_block(widened(start), t.lo, t.freqs, t.bits, t.golomb, t.single) for start in starts)
    return Encoded(table, tuple(coded))


def decode_octets(table: bytes, blocks: Sequence[bytes | memoryview], count: int) -> NDArray[np.uint8]:
    """The inverse; CorruptFile as ``rans.decode`` has it, and for symbols that are no bytes."""
    if len(blocks) != -(-count // BLOCK):
        raise CorruptFile(f"a stream of {count} bytes has {len(blocks)} blocks, expected {-(-count // BLOCK)}")
    out = np.empty(count, np.uint8)
    for number, block in enumerate(blocks):
        part = out[number * BLOCK : (number + 1) * BLOCK]
        symbols = decode(table, [block], part.size)
        if int(symbols.min()) < 0 or int(symbols.max()) > 255:
            raise CorruptFile(f"a stream of bytes holds values from {symbols.min()} to {symbols.max()}")
        part[:] = symbols
    return out
