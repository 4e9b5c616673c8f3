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
A stream of n symbols has one table (docs/format.md, section 5) and ceil(n / BLOCK) blocks, each of BLOCK = 262,144
symbols but the last. In a constant stream every block has zero bytes. All numbers are little-endian. A block of m
symbols is:

    escape length e     varint (7 bits per byte, low ones first, at most 5 bytes); only where the table has an escape
    lane states         4 bytes each, lane 0 first; a single lane's state in fewer, see below
    words               2 bytes each, in the order in which a decoder takes them
    escaped values      e bytes

L = 1 lane where the table says "single" or m < 65,536; otherwise 16 where m < 131,072, and 32.
Decoding a symbol from state x looks up whose slot x mod 2^b is and sets x = f (x div 2^b) + slot - c. Where x < 2^16
then, it is *refilled*: x = 2^16 x + next word.

One lane: the state is 4 - (rest mod 2) bytes where the rest of the block (without length and escaped values) is more
than 4 bytes, otherwise all of the rest; its last byte is not zero, and with words it is at least 2^16. The state is
not refilled after the last word. After m symbols it must be 0, and all words used. (Ending in 0 costs about two bytes
per block beyond the ideal length, ending in 2^16 would cost more than three; but 0 is so easily reached that a decoder
notices little damage here: streams need a checksum.)

A stream with *classes* has up to 16 tables. Its symbols are the elements of a matrix, rows and columns have scales, and
the table of an element follows from the sum of both: known before a symbol is decoded, so that lanes stay independent.

More lanes: all states are at least 2^16. Symbol i belongs to lane i mod L, except for the last 32 L symbols, the tail,
where it belongs to lane i mod 4. After the other symbols lanes 4 .. L - 1 must be in [2^16, 2^17): their low halves, in
lane order, are the first words of the tail, before those left in the block. At the end lanes 0 .. 3 must be 2^16, all
words used, and unused halves 0. (The halves would be wasted otherwise: two bytes per lane.)

Escaped values stand in the order of their positions, as bits that fill bytes from the lowest. With [lo, hi] the
alphabet, v becomes u = 2 (v - hi - 1) above it and u = 2 (lo - 1 - v) + 1 below; with k the Golomb order and the n + 1
bits of q = (u >> k) + 1, it is written as n zeros, a one, the low n bits of q, the low k bits of u. The last byte is
filled with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.codec import _native
from noworse.errors import BadInput, CorruptFile

BLOCK = 1 << 18

Scales = tuple[NDArray[np.int32], NDArray[np.int32]]  # of rows and of columns, 0 to 31


@dataclass(frozen=True)
class Encoded:
    """A coded stream: the bytes of its frequency tables and of each block of BLOCK symbols.

    ``scales`` is None where one table serves all symbols; otherwise the sum of the scales of a symbol's row and column
    says which one does, and they have to be stored beside the stream.
    """

    table: bytes
    blocks: tuple[bytes, ...]
    scales: Scales | None = None

    @property
    def size(self) -> int:
        """Bytes of tables and blocks."""
        return len(self.table) + sum(map(len, self.blocks))


@dataclass(frozen=True)
class Coded:
    """A coded stream as a reader meets it: tables, then blocks back to back, with the crc32 of each (or none)."""

    data: bytes
    table: int  # bytes
    blocks: Sequence[int]  # bytes
    checksums: Sequence[int] = ()  # the first one covers the tables as well
    scales: Scales | None = None


def encode(codes: NDArray[Any], columns: int = 0, threads: int = 0, simd: int = 2) -> Encoded:
    """Codes (n,), int32 in [-2**30, 2**30] or uint8 or int8, as tables and blocks; BadInput for others.

    With ``columns`` > 0 they are a matrix (n / columns, columns) whose rows and columns get scales where that saves
    bytes. The same codes give the same bytes from any number of threads (0: one per processor) and with every ``simd``.
    """
    if codes.ndim != 1 or codes.dtype not in (np.int32, np.uint8, np.int8):
        raise BadInput(f"codes have dtype {codes.dtype} and shape {codes.shape}, expected int32 and one dimension")
    if columns and codes.size % columns:
        raise BadInput(f"{codes.size} codes are no matrix of {columns} columns")
    try:
        table, blocks, scales = _native.encode(np.ascontiguousarray(codes), columns, threads, simd)
    except ValueError as error:
        raise BadInput(str(error)) from error
    return Encoded(table, tuple(blocks), scales)


def decode_into(coded: Coded, out: NDArray[Any], threads: int = 0, simd: int = 2) -> None:
    """Fill ``out`` (n,) int32 or uint8 with the codes of a stream.

    ``threads``: 0 is one per processor. ``simd``: 0 keeps to portable code, 1 uses AVX2, 2 AVX-512 as well, where the
    processor has them; the result is the same. CorruptFile
    where a checksum differs or tables, blocks and size of ``out`` do not fit together.
    """
    try:
        _native.decode(*_opened(coded), out, coded.scales, threads, simd)
    except ValueError as error:
        raise CorruptFile(str(error)) from error


def decode_grid_into(
    coded: Coded,
    out: NDArray[np.float32],
    step: float,
    edge: int,
    threads: int = 0,
    simd: int = 2,
    digest: bool = False,
) -> int:
    """Fill ``out`` (n,) float32 with sign(k) (edge / 64 + |k| - 1/2) step for the codes k of a stream, 0 for k = 0.

    ``step`` has at most 24 significant bits, ``edge`` is 1 to 255. Returns the fingerprint of ``out``, or 0 without
    ``digest``. CorruptFile as above.
    """
    found = decode_grids([CodedGrid(coded, out, step, edge)], threads, simd, digest)[0]
    if isinstance(found, CorruptFile):
        raise found
    return found


@dataclass(frozen=True)
class CodedGrid:
    """A coded stream of codes, step and edge of its grid, and where its values go (see ``decode_grid_into``)."""

    coded: Coded
    out: NDArray[np.float32]
    step: float
    edge: int


class GridDecoding:
    """Arrays of several grids being filled, whose blocks the threads share.

    Threads begin when it is made and need nothing of Python's, so that its maker can go on in the meantime; who asks
    for the results works with them. Arguments as those of ``decode_grid_into``.
    """

    def __init__(self, grids: Sequence[CodedGrid], threads: int = 0, simd: int = 2, digest: bool = False) -> None:
        self._parts = [_part(grid) for grid in grids]
        good = tuple(part for part in self._parts if not isinstance(part, CorruptFile))
        self._native = _native.GridDecoding(good, threads, simd, digest)

    def results(self) -> list[int | CorruptFile]:
        """Waits for the end; per grid its fingerprint (0 without ``digest``), or what is wrong with it."""
        found = iter(self._native.results())
        return [part if isinstance(part, CorruptFile) else _result(next(found)) for part in self._parts]


def decode_grids(
    grids: Sequence[CodedGrid], threads: int = 0, simd: int = 2, digest: bool = False
) -> list[int | CorruptFile]:
    """The results of ``GridDecoding``."""
    return GridDecoding(grids, threads, simd, digest).results()


def _part(grid: CodedGrid) -> _native.GridPart | CorruptFile:
    try:
        return _native.GridPart(*_opened(grid.coded), grid.out, grid.step, grid.edge, grid.coded.scales)
    except ValueError as error:
        return CorruptFile(str(error))


def _result(found: int | str) -> int | CorruptFile:
    return CorruptFile(found) if isinstance(found, str) else found


def _opened(coded: Coded) -> tuple[_native.Tables, NDArray[np.uint8], _native.Lengths]:
    data = np.frombuffer(coded.data, np.uint8)
    if not 0 <= coded.table <= data.size:
        raise ValueError(f"tables of {coded.table} bytes in a stream of {data.size}")
    head = coded.data[: coded.table]
    if coded.checksums:
        _check_first(coded, data)
    lengths = _native.Lengths(list(coded.blocks), list(coded.checksums))
    return _native.Tables(head, coded.scales is not None), data[coded.table :], lengths


def _check_first(coded: Coded, data: NDArray[np.uint8]) -> None:
    """Verify the checksum that covers the tables before they are read."""
    if not coded.blocks:
        raise ValueError("checksums without blocks")
    found, expected = _native.crc32(data[: coded.table + coded.blocks[0]]), coded.checksums[0]
    if found != expected:
        count = len(coded.blocks)
        raise ValueError(f"block 0 of {count} is damaged: its crc32 is {found:08x}, expected {expected:08x}")


def decode(
    table: bytes, blocks: Sequence[bytes], count: int, scales: Scales | None = None, threads: int = 0, simd: int = 2
) -> NDArray[np.int32]:
    """Codes (count,) int32 of a stream; CorruptFile where tables, blocks and count do not fit together."""
    if count < 0 or len(blocks) != -(-count // BLOCK):
        expected = -(-max(count, 0) // BLOCK)
        raise CorruptFile(f"a stream of {count} symbols has {len(blocks)} blocks, expected {expected}")
    out = np.empty(count, np.int32)
    coded = Coded(b"".join([table, *blocks]), len(table), [len(block) for block in blocks], scales=scales)
    decode_into(coded, out, threads, simd)
    return out


def fingerprint(data: NDArray[np.uint8], threads: int = 0) -> int:
    """64 bits that depend on every byte and its place; faster than any cryptographic hash, and none.

    The sum modulo 2**64 of w + (v mod 2**32) (v div 2**32) with v = w xor (i + 1) 0x9E3779B97F4A7C15 mod 2**64, over
    the little-endian words w of 8 bytes, numbered i from 0, the last one filled with zeros.
    """
    return _native.fingerprint(data, threads)
