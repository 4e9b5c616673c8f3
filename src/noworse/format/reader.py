"""A file opened for reading: its index at once, its tensors one by one."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from noworse.codec import CodedGrid, GridDecoding, Scales
from noworse.errors import BadInput, CorruptFile
from noworse.format import limits
from noworse.format.arena import Arena
from noworse.format.attribution import attribute, split_shared
from noworse.format.chunks import as_coded, decode_chunk
from noworse.format.digest import Digest
from noworse.format.index import CONSTANT, GRID, PRODUCT, RAW, TIED, Entry
from noworse.format.layout import Span, Use
from noworse.format.parse import parse
from noworse.format.planes import join
from noworse.format.writer import HEADER
from noworse.representation import (
    PLAIN,
    Constant,
    Grid,
    Product,
    Raw,
    Representation,
    Tied,
    check_scale,
    from_float32,
    to_numpy,
    unpack_step,
)

TRAILER_BYTES = 12
MAGIC_BYTES = 6
BATCH = 1 << 22  # elements decoded at once, which threads share
_Content = tuple[NDArray[Any], int | None]  # stored elements, and their fingerprint where decoding made one
_Started = tuple[dict[int, CodedGrid], GridDecoding]  # tensors by number
_NO_CODES = np.zeros(0, np.int32)


class File:
    """A .nwt file, or its bytes: a context manager.

    The index is read and checked on opening. ``max_bytes`` limits the decoded size of all tensors together; without it
    it is 256 MiB plus 1024 times the size of the file. CorruptFile for anything wrong; OSError as ``open`` has it.
    """

    def __init__(self, source: str | Path | bytes, max_bytes: int | None = None) -> None:
        self._in: BinaryIO = io.BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb")  # noqa: SIM115
        self._lock = Lock()
        self._cache: dict[int, NDArray[Any]] = {}  # decoded shared streams
        self._shares: dict[int, dict[int, int]] = {}
        try:
            self._open(max_bytes)
        except BaseException:
            self._in.close()
            raise

    def _open(self, max_bytes: int | None) -> None:
        self.size = self._in.seek(0, os.SEEK_END)
        self._check_header(self.raw(0, min(len(HEADER), self.size)))
        smallest = len(HEADER) + TRAILER_BYTES
        if self.size < smallest:
            raise CorruptFile(f"a file of {self.size} bytes, expected at least {smallest}: it is truncated")
        trailer = self.raw(self.size - TRAILER_BYTES, TRAILER_BYTES)
        packed, raw, checksum = struct.unpack("<III", trailer)
        if packed > min(self.size - smallest, limits.INDEX_BYTES):
            raise CorruptFile(
                f"an index of {packed} bytes in a file of {self.size}, limit {limits.INDEX_BYTES}: damaged or truncated"
            )
        start = self.size - TRAILER_BYTES - packed
        self._packed = self.raw(start, packed)
        found = zlib.crc32(trailer[:8], zlib.crc32(self._packed, zlib.crc32(HEADER)))
        if found != checksum:
            raise CorruptFile(f"the crc32 of the index is {found:08x}, expected {checksum:08x}: damaged or truncated")
        limit = limits.default_max_bytes(self.size) if max_bytes is None else max_bytes
        self.index, self._layout = parse(self._packed, raw, limit)
        self._numbers = {entry.name: number for number, entry in enumerate(self.index.tensors)}
        self._offsets = [len(HEADER)]
        for stream in self.index.streams:
            self._offsets.append(self._offsets[-1] + stream.nbytes)
        if self._offsets[-1] != start:
            raise CorruptFile(f"the data end at byte {self._offsets[-1]}, expected {start} where the index begins")

    @staticmethod
    def _check_header(header: bytes) -> None:
        magic, version = HEADER[:MAGIC_BYTES], HEADER[MAGIC_BYTES:]
        if not header.startswith(magic):
            raise CorruptFile(f"not a .nwt file: it begins with {header[:MAGIC_BYTES]!r}, expected {magic!r}")
        if len(header) == len(HEADER) and header != HEADER:
            found, known = (int.from_bytes(bytes_, "little") for bytes_ in (header[MAGIC_BYTES:], version))
            raise CorruptFile(f"a file of version {found}, expected version {known}: a newer noworse may read it")

    def __enter__(self) -> File:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._in.close()

    @property
    def names(self) -> list[str]:
        """Names of all tensors, in file order."""
        return list(self._numbers)

    @property
    def settings(self) -> dict[str, Any]:
        """How the file was made."""
        return self.index.settings

    @property
    def verdict(self) -> dict[str, Any] | None:
        """The result of the test that the file was put to, if any."""
        return self.index.verdict

    @property
    def digest(self) -> str:
        """Fingerprint of the decoded tensors, 32 hexadecimal digits."""
        return self.index.digest.hex()

    def entry(self, name: str) -> Entry:
        """What the index says about one tensor; BadInput for an unknown name."""
        return self.index.entries[self._number(name)]

    def representation(self, name: str) -> Representation:
        """How the tensor is written, ready to decode; CorruptFile where its data are damaged."""
        number = self._number(name)
        entry = self.index.entries[number]
        kind, dtype, shape = entry.signature.kind, entry.signature.dtype, entry.signature.shape
        with self._naming(number):
            if kind == CONSTANT:
                return Constant(entry.signature.value, shape, dtype)
            if kind == TIED:
                return Tied(self.index.entries[entry.target].name, shape, dtype)
            if kind == RAW:
                parts = self._parts(number)
                return Raw(join(parts, dtype).data if parts else b"", shape, dtype)
            if kind == GRID:
                return self._grid(number)
            left, right = self._grid(entry.target), self._grid(entry.target + 1)
            return Product(left, right, entry.signature.value[0], shape, dtype)

    def _grid(self, number: int) -> Grid:
        entry, parts = self.index.entries[number], self._parts(number)
        codes = parts[0] if parts else _NO_CODES
        return Grid(codes, entry.step, entry.edge, entry.signature.shape, entry.signature.dtype, entry.form)

    def storage(self, name: str) -> NDArray[Any] | str:
        """Stored elements of a tensor (``Representation.storage``), or the name of its target where it is tied.

        The same as by way of ``representation``, but the codes of large grids are never held as integers.
        """
        number = self._number(name)
        if self._is_fused(number):
            return self._finish(self._start([number]))[number][0]
        return self._unfused(name)

    def _unfused(self, name: str) -> NDArray[Any] | str:
        found = self.representation(name)
        return found.target if isinstance(found, Tied) else _own_storage(found)

    def _is_fused(self, number: int) -> bool:
        """Whether a tensor is decoded straight to its values."""
        entry, span = self.index.entries[number], self._layout.spans[number]
        if entry.signature.kind != GRID or not entry.signature.size or entry.form != PLAIN:
            return False
        return not self._layout.uses[span.first].shared and not self.index.streams[span.first].in_context

    def _start(self, numbers: list[int], arena: Arena | None = None) -> _Started:
        """Sets threads to decoding several tensors, by number."""
        grids = {}
        for number in numbers:
            with self._naming(number):
                grids[number] = self._coded_grid(number, arena)
        return grids, GridDecoding(list(grids.values()), digest=True)

    def _finish(self, started: _Started) -> dict[int, _Content]:
        """Their contents."""
        grids, decoding = started
        found = {}
        for (number, grid), result in zip(grids.items(), decoding.results(), strict=True):
            with self._naming(number):
                if isinstance(result, CorruptFile):
                    raise result
                signature = self.index.entries[number].signature
                content = from_float32(grid.out, signature.dtype).reshape(signature.shape)
                found[number] = content, result if signature.dtype == "float32" else None
        return found

    def _coded_grid(self, number: int, arena: Arena | None) -> CodedGrid:
        entry, span = self.index.entries[number], self._layout.spans[number]
        check_scale(entry.step, entry.edge)
        coded = as_coded(self._data(span.first), self.index.streams[span.first], self._scales(span))
        size = entry.signature.size
        out = np.empty(size, np.float32) if arena is None else arena.take(size)
        return CodedGrid(coded, out, unpack_step(entry.step), entry.edge)

    @contextmanager
    def _naming(self, number: int) -> Iterator[None]:
        """Says in errors which tensor they are about."""
        try:
            yield
        except (BadInput, CorruptFile) as error:
            raise CorruptFile(f"tensor {self.index.entries[number].name!r}: {error}") from error

    def array(self, name: str) -> NDArray[Any]:
        """The decoded tensor (see ``Representation.decode``); a tied one decodes its target."""
        stored = self.storage(name)
        return self.array(stored) if isinstance(stored, str) else to_numpy(stored, self.entry(name).signature.dtype)

    def stored(self) -> Iterator[tuple[str, NDArray[Any] | str]]:
        """Names with stored elements (``Representation.storage``), or the target's name where tied.

        Compares the digest at the end: CorruptFile where it differs, so nothing is to be used before.
        """
        digest, fused = Digest(), [number for number in self._numbers.values() if self._is_fused(number)]
        arena = Arena(sum(self.index.entries[number].signature.size for number in fused))
        decoded: dict[int, _Content] = {}
        ahead = self._start(self._batch(fused), arena)
        for name, number in self._numbers.items():
            if number in ahead[0]:
                started, ahead = ahead, self._start(self._batch(fused), arena)  # so that threads never wait for us
                decoded = self._finish(started)
            content, known = decoded.pop(number) if number in decoded else (self._unfused(name), None)
            signature = self.index.entries[number].signature
            digest.add(name, signature.dtype, signature.shape, content, known)
            yield name, content
        if digest.value() != self.index.digest:
            raise CorruptFile(f"the tensors decode to digest {digest.value().hex()}, expected {self.digest}")

    def _batch(self, fused: list[int]) -> list[int]:
        """Takes tensors to be decoded together from the beginning of a list, until they have BATCH elements."""
        batch: list[int] = []
        size = 0
        while fused and size < BATCH:
            batch.append(fused.pop(0))
            size += self.index.entries[batch[-1]].signature.size
        return batch

    def check(self) -> None:
        """Decode everything and compare the digest; CorruptFile where anything is wrong."""
        for _ in self.stored():
            pass

    def attribution(self) -> dict[str, int]:
        """Bytes by category: payload, tables, scales, names, ...; they sum to the size of the file exactly."""
        return attribute(self.index, self._layout.uses, len(HEADER), TRAILER_BYTES, len(self._packed))

    def tensor_bytes(self, name: str) -> int:
        """Bytes of payload and tables for this tensor; shared streams are split by ideal code length."""
        number, entry = self._number(name), self.entry(name)
        if entry.signature.kind == PRODUCT:
            return self._stream_bytes(entry.target) + self._stream_bytes(entry.target + 1)
        return self._stream_bytes(number)

    def _stream_bytes(self, number: int) -> int:
        span, width = self._layout.spans[number], self.index.entries[number].signature.streams
        total = 0
        for stream in range(span.first - 2 * span.classes, span.first + width):
            shared = self._layout.uses[stream].shared
            total += self._shares_of(stream)[number] if shared else self.index.streams[stream].nbytes
        return total

    def _shares_of(self, stream: int) -> dict[int, int]:
        """Bytes of a shared stream by number of the tensor."""
        if stream not in self._shares:
            tensors = self._layout.uses[stream].tensors
            sizes = [self.index.entries[tensor].signature.size for tensor in tensors]
            parts = split_shared(self.index.streams[stream].nbytes, self._symbols(stream), sizes)
            self._shares[stream] = dict(zip(tensors, parts, strict=True))
        return self._shares[stream]

    def _number(self, name: str) -> int:
        number = self._numbers.get(name)
        if number is None:
            raise BadInput(f"no tensor is called {name!r}; the file has {', '.join(list(self._numbers)[:8])}, ...")
        return number

    def _parts(self, number: int) -> list[NDArray[Any]]:
        """The tensor's symbols in each of its streams."""
        span, signature = self._layout.spans[number], self.index.entries[number].signature
        streams, scales = range(span.first, span.first + signature.streams), self._scales(span)
        return [self._symbols(stream, scales)[span.start : span.start + signature.size] for stream in streams]

    def _symbols(self, stream: int, scales: Scales | None = None) -> NDArray[Any]:
        """All symbols of a stream; shared ones are kept, since their other tensors are likely to be asked for."""
        if stream in self._cache:
            return self._cache[stream]
        use = self._layout.uses[stream]
        shapes = self._shapes(use)
        symbols = decode_chunk(self._data(stream), self.index.streams[stream], use.is_bytes, shapes, scales)
        if use.shared:
            self._cache[stream] = symbols
        return symbols

    def _shapes(self, use: Use) -> list[tuple[int, ...]]:
        """Those of the tensors of a stream, or its own where it holds scales."""
        return [(use.count,)] if use.scales else [self.index.entries[tensor].signature.shape for tensor in use.tensors]

    def _data(self, stream: int) -> bytes:
        return self.raw(self._offsets[stream], self.index.streams[stream].nbytes)

    def _scales(self, span: Span) -> Scales | None:
        """The scales of the rows and of the columns of a tensor with classes."""
        return (self._symbols(span.first - 2), self._symbols(span.first - 1)) if span.classes else None

    def raw(self, start: int, count: int) -> bytes:
        """Bytes of the file as they are."""
        with self._lock:
            self._in.seek(start)
            data = self._in.read(count)
        if len(data) != count:
            raise CorruptFile(f"{len(data)} bytes at offset {start}, expected {count}: the file is truncated")
        return data


def _own_storage(found: Representation) -> NDArray[Any]:
    """Stored elements that nobody else holds; those of raw tensors lie in memory that ``join`` has just made."""
    writable = isinstance(found, Raw) and isinstance(found.data, memoryview)
    return found.view() if isinstance(found, Raw) and writable else found.storage()
