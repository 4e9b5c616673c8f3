"""Interleaved rANS: integers to bytes at the entropy of their histogram, and back.

Range asymmetric numeral systems (Duda 2013) keep a message in a number x, the state. A symbol whose frequency is f out
of 2^b, and whose slots start at c, is added by x -> (x div f) 2^b + c + x mod f, which makes x about 2^b / f times
larger: log2(2^b / f) bits, the ideal code length, with no rounding to whole bits. The low b bits of x name a slot and
thereby the symbol to take off again. To keep x within a machine word its low 16 bits are moved out as a *word* whenever
it would overflow. What goes in last comes out first, so symbols are encoded from the last to the first. One state is a
chain of dependent operations; several states (lanes) that take turns in one stream keep a processor busy (Giesen 2014).

Against arithmetic coding the ratio is the same and decoding one table lookup and one multiplication per symbol.

Byte layout
-----------
A stream of n symbols has one table (see tables.py) and ceil(n / BLOCK) blocks, each of BLOCK = 262,144 symbols but the
last. In a constant stream every block has zero bytes. All numbers are little-endian. A block of m symbols is:

    escape length e     varint (7 bits per byte, low ones first, at most 5 bytes); only where the table has an escape
    lane states         4 bytes each, lane 0 first; a single lane's state in fewer, see below
    words               2 bytes each, in the order in which a decoder takes them
    escaped values      e bytes

L = 1 lane where the table says "single" or m < 65,536; otherwise 8 where m < 131,072, 16 where m < 262,144, and 32.
Decoding a symbol from state x looks up whose slot x mod 2^b is and sets x = f (x div 2^b) + slot - c. Where x < 2^16
then, it is *refilled*: x = 2^16 x + next word.

One lane: the state is 4 - (rest mod 2) bytes where the rest of the block (without length and escaped values) is more
than 4 bytes, otherwise all of the rest; its last byte is not zero, and with words it is at least 2^16. The state is
not refilled after the last word. After m symbols it must be 0, and all words used. (Ending in 0 costs about two bytes
per block beyond the ideal length, ending in 2^16 would cost more than three; but 0 is so easily reached that a decoder
notices little damage here: streams need a checksum.)

More lanes: all states are at least 2^16. Symbol i belongs to lane i mod L, except for the last 64 L symbols, the tail,
which lane 0 decodes alone. After the other symbols lanes 1 .. L - 1 must be in [2^16, 2^17): their low halves, in lane
order, are the first words of the tail, before those left in the block. At the end lane 0 must be 2^16, all words used,
and unused halves 0. (The halves would be wasted otherwise: two bytes per lane.)

Escaped values stand in the order of their positions, as bits that fill bytes from the lowest. With [lo, hi] the
alphabet, v becomes u = 2 (v - hi - 1) above it and u = 2 (lo - 1 - v) + 1 below; with k the Golomb order and the n + 1
bits of q = (u >> k) + 1, it is written as n zeros, a one, the low n bits of q, the low k bits of u. The last byte is
filled with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noworse.codec import _native
from noworse.codec.tables import MAX_CODE, Table, constant, parse
from noworse.errors import BadInput, CorruptFile

BLOCK = 1 << 18
_WINDOW = 1 << 16  # widest range of codes that is counted symbol by symbol


@dataclass(frozen=True)
class Encoded:
    """A coded stream: the bytes of its frequency table and of each block of BLOCK symbols."""

    table: bytes
    blocks: tuple[bytes, ...]

    @property
    def size(self) -> int:
        """Bytes of table and blocks."""
        return len(self.table) + sum(map(len, self.blocks))


def encode(codes: NDArray[np.int32]) -> Encoded:
    """Codes (n,) int32 in [-2**30, 2**30] as table and blocks; the same codes give the same bytes. BadInput else."""
    if codes.ndim != 1 or codes.dtype != np.int32:
        raise BadInput(f"codes have dtype {codes.dtype} and shape {codes.shape}, expected int32 and one dimension")
    codes = np.ascontiguousarray(codes)
    low, high = _native.bounds(codes)
    if low < -MAX_CODE or high > MAX_CODE:
        raise BadInput(f"codes range over {low} .. {high}, expected at most 2**30 in size")
    if low == high:
        return Encoded(constant(low), (b"",) * _blocks(len(codes)))
    data = _choose(codes, low, high)
    t = parse(data)
    parts = (codes[i : i + BLOCK] for i in range(0, len(codes), BLOCK))
    blocks = (_native.encode_block(part, t.lo, t.freqs, t.bits, t.golomb, t.single) for part in parts)
    return Encoded(data, tuple(blocks))


def decode(table: bytes, blocks: Sequence[bytes | memoryview], count: int) -> NDArray[np.int32]:
    """Codes (count,) int32 of a stream; CorruptFile where table, blocks and count do not fit together."""
    if count < 0 or len(blocks) != _blocks(count):
        raise CorruptFile(f"a stream of {count} symbols has {len(blocks)} blocks, expected {_blocks(max(count, 0))}")
    t = parse(table)
    if t.constant:
        if any(len(block) > 0 for block in blocks):
            raise CorruptFile("a constant stream has a block with bytes, expected none")
        return np.full(count, t.lo, np.int32)
    out = np.empty(count, np.int32)
    for i, block in enumerate(blocks):
        _decode_block(t, bytes(block), out[i * BLOCK : (i + 1) * BLOCK], f"block {i} of {len(blocks)}")
    return out


def _decode_block(t: Table, block: bytes, out: NDArray[np.int32], name: str) -> None:
    try:
        _native.decode_block(block, out, t.lo, t.freqs, t.bits, t.golomb, t.single)
    except ValueError as error:
        raise CorruptFile(f"{name} is damaged: {error}") from error


def _blocks(count: int) -> int:
    return -(-count // BLOCK)


def _choose(codes: NDArray[np.int32], low: int, high: int) -> bytes:
    """Bytes of the table for codes that are not constant."""
    from noworse.codec.fit import Histogram, fit  # readers of files do not need it

    lo, far = low, np.zeros(0, np.int64)
    if high - low >= _WINDOW:
        middle = int(np.partition(codes, len(codes) // 2)[len(codes) // 2])  # a code: its neighbourhood is not empty
        lo = max(low, middle - _WINDOW // 2)
        far = codes[(codes < lo) | (codes >= lo + _WINDOW)].astype(np.int64)
    counts, _ = _native.histogram(codes, lo, min(high - lo + 1, _WINDOW))
    return fit(Histogram(lo, counts, *np.unique(far, return_counts=True))).to_bytes()
