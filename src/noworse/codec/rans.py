"""Interleaved rANS: integers to bytes at the entropy of their histogram, and back; bytes as docs/format.md, section 5.

A stream of n symbols has one table and ceil(n / BLOCK) blocks; one with *classes* has up to 16 tables, and its symbols
are the elements of a matrix whose rows and columns have scales: their sum says which table an element was coded with.
In a constant stream every block has zero bytes. Streams need a checksum: a decoder notices little damage.
"""

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

    data: bytes | memoryview
    table: int | None  # bytes; None: plain bytes follow
    blocks: Sequence[int]  # bytes
    checksums: Sequence[int] = ()  # the first one covers the tables as well
    scales: Scales | None = None


def encode(codes: NDArray[Any], columns: int = 0, threads: int = 0, simd: int = 2) -> Encoded:
    """Return codes (n,), int32 in [-2**30, 2**30] or uint8 or int8, as tables and blocks; BadInput for others.

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


def decode_into(coded: Coded, out: NDArray[Any], threads: int = 0, simd: int = 3) -> None:
    """Fill ``out`` (n,) int32 or uint8 with the codes of a stream, by so many threads (0: one per processor).

    ``simd``: 0 keeps to portable code, 1 uses AVX2, 2 AVX-512 as well, 3 its gathers, as far as the processor has them
    and gathers are quick; the result is the same. CorruptFile where a checksum differs or tables, blocks and size of
    ``out`` do not fit together.
    """
    try:
        _native.decode(*_opened(coded), out, coded.scales, threads, simd)
    except ValueError as error:
        raise CorruptFile(str(error)) from error


@dataclass(frozen=True)
class CodedGrid:
    """A stream of codes k, and where their values go: sign(k) (edge / 64 + |k| - 1/2) step, 0 for k = 0."""

    coded: Coded
    out: NDArray[np.float32]  # (n,)
    step: float  # of at most 24 significant bits
    edge: int  # 1 to 255


@dataclass(frozen=True)
class CodedPlanes:
    """Streams of the byte planes of elements, lowest byte first, and where the elements go.

    Elements have 2, 4 or 8 bytes; ``rotate``: they were turned left by one bit. A plane lies in one stream, or in one
    for each block; those of ``table`` None are as they are.
    """

    planes: Sequence[Sequence[Coded]]
    out: NDArray[np.uint8]  # (bytes of all elements,)
    rotate: bool


class Decoding:
    """Arrays of several tensors being filled by threads that share blocks; arguments as those of ``decode_into``.

    Threads begin when it is made and need nothing of Python's; who asks for the results works with them.
    """

    def __init__(
        self, tensors: Sequence[CodedGrid | CodedPlanes], threads: int = 0, simd: int = 3, digest: bool = False
    ) -> None:
        self._parts = [_part(tensor) for tensor in tensors]
        good = tuple(part for part in self._parts if not isinstance(part, CorruptFile))
        self._native = _native.Decoding(good, threads, simd, digest)

    def results(self) -> list[int | CorruptFile]:
        """Wait for the end; per tensor its fingerprint (0 without ``digest``), or what is wrong with it."""
        native = iter(self._native.results())
        results = [part if isinstance(part, CorruptFile) else next(native) for part in self._parts]
        return [CorruptFile(result) if isinstance(result, str) else result for result in results]


def _part(tensor: CodedGrid | CodedPlanes) -> _native.Part | CorruptFile:
    try:
        if isinstance(tensor, CodedPlanes):
            planes = tuple(tuple(map(_plane, streams)) for streams in tensor.planes)
            return _native.RawPart(planes, tensor.out, tensor.rotate)
        return _native.GridPart(*_opened(tensor.coded), tensor.out, tensor.step, tensor.edge, tensor.coded.scales)
    except ValueError as error:
        return CorruptFile(str(error))


def _plane(coded: Coded) -> _native.PlanePart:
    if coded.table is None:
        lengths = _native.Lengths(list(coded.blocks), list(coded.checksums))
        return _native.PlanePart(None, np.frombuffer(coded.data, np.uint8), lengths)
    return _native.PlanePart(*_opened(coded))


def _opened(coded: Coded) -> tuple[_native.Tables, NDArray[np.uint8], _native.Lengths]:
    data, count, table = np.frombuffer(coded.data, np.uint8), len(coded.blocks), coded.table or 0
    if not 0 <= table <= data.size:
        raise ValueError(f"tables of {table} bytes in a stream of {data.size}")
    if coded.checksums:  # the first one covers the tables, so it is verified before they are read
        if not count:
            raise ValueError("checksums without blocks")
        found, expected = _native.crc32(data[: table + coded.blocks[0]]), coded.checksums[0]
        if found != expected:
            raise ValueError(f"block 0 of {count} is damaged: its crc32 is {found:08x}, expected {expected:08x}")
    lengths = _native.Lengths(list(coded.blocks), list(coded.checksums))
    return _native.Tables(bytes(coded.data[:table]), coded.scales is not None), data[table:], lengths


def fingerprint(data: NDArray[np.uint8], threads: int = 0) -> int:
    """Return 64 bits that depend on every byte and its place; faster than any cryptographic hash, and none.

    The sum modulo 2**64 of w + (v mod 2**32) (v div 2**32) with v = w xor (i + 1) 0x9E3779B97F4A7C15 mod 2**64, over
    the little-endian words w of 8 bytes, numbered i from 0, the last one filled with zeros.
    """
    return _native.fingerprint(data, threads)
