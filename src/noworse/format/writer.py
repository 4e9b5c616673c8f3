"""Tensors to a file, one after the other: only small tensors, which share streams, are held back until the end."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from noworse.errors import BadInput
from noworse.format import limits
from noworse.format.atomic import atomic_file
from noworse.format.chunks import Chunk, encode_bytes, encode_codes, encode_in_context, encode_matrix
from noworse.format.dictionary import DICTIONARY
from noworse.format.digest import Digest
from noworse.format.groups import group
from noworse.format.index import (
    CLASSES,
    CONSTANT,
    GRID,
    OWN,
    PRODUCT,
    RAW,
    SHARED,
    TIED,
    Entry,
    Index,
    Signature,
    Stream,
    columns,
    tail,
)
from noworse.format.planes import split
from noworse.representation import Constant, Grid, Product, Raw, Representation, Tied

HEADER = b"\x89NWT\r\n" + struct.pack("<H", 1)  # magic, version
SMALL_GRID = 1 << 14  # elements below which grids may share a stream
SMALL_RAW = 1 << 10
LARGE_GRID = 1 << 19  # elements from which on a context-coded grid has a stream of its own, so that it is read alone
AUTO_CODES = 1 << 20  # of all grids together: with fewer, "auto" means "max", which then takes less than seconds
# how codes are written: "fast" with frequency tables (rANS), "max" context-coded where that is smaller, or one of these
CODERS = ("auto", "fast", "max")


def pack(
    items: Mapping[str, Representation],
    settings: dict[str, Any],
    verdict: dict[str, Any] | None,
    coder: str = "fast",
) -> bytes:
    """The whole file as bytes; BadInput for what cannot be stored."""
    out = io.BytesIO()
    _Writer(out, coder).write(items, settings, verdict)
    return out.getvalue()


def packed_size(
    items: Mapping[str, Representation],
    settings: dict[str, Any],
    verdict: dict[str, Any] | None,
    coder: str = "fast",
) -> int:
    """``len(pack(...))``, faster: nothing is kept, and the digest, whose length is known, is not computed."""
    return _Writer(_Counter(), coder, digest=False).write(items, settings, verdict)


def write(
    path: str | Path,
    items: Mapping[str, Representation],
    settings: dict[str, Any],
    verdict: dict[str, Any] | None = None,
    coder: str = "fast",
) -> int:
    """Write a file whole or not at all and return its bytes; BadInput where the path cannot be written."""
    with atomic_file(path) as out:
        return _Writer(out, coder).write(items, settings, verdict)


def finish(out: BinaryIO, index: Index) -> int:
    """Write index and trailer behind the data and return their bytes."""
    text = b"".join(data for _, data in columns(index))
    if len(text) > limits.INDEX_BYTES:
        raise BadInput(f"an index of {len(text)} bytes, expected at most {limits.INDEX_BYTES}")
    names = sum(len(entry.name.encode()) for entry in index.entries)
    if names > limits.NAMES_BYTES:
        raise BadInput(f"names of {names} bytes together, expected at most {limits.NAMES_BYTES}")
    packed = deflate(text) + b"".join(data for _, data in tail(index))
    lengths = struct.pack("<II", len(packed), len(text))
    checksum = zlib.crc32(lengths, zlib.crc32(packed, zlib.crc32(HEADER)))
    return out.write(packed + lengths + struct.pack("<I", checksum))


def deflate(data: bytes) -> bytes:
    """Raw deflate with the dictionary of format version 1."""
    stream = deflater()
    return stream.compress(data) + stream.flush()


def deflater() -> zlib._Compress:
    """The same for data in parts."""
    return zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, 9, zlib.Z_DEFAULT_STRATEGY, DICTIONARY)


class _Counter(io.BytesIO):
    """Takes bytes and forgets them."""

    def write(self, data: Any) -> int:
        """The number of bytes that a file would have taken."""
        return len(data)


@dataclass
class _Writer:
    out: BinaryIO
    coder: str
    digest: bool = True
    entries: list[Entry] = field(default_factory=list)
    own: list[Stream] = field(default_factory=list)
    shared: list[Stream] = field(default_factory=list)
    written: int = 0
    grids: dict[int, NDArray[np.int32]] = field(default_factory=dict)  # small ones, by number of the tensor
    raws: dict[str, dict[int, bytes | memoryview]] = field(default_factory=dict)  # small ones, by dtype
    products: list[Product] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.coder not in CODERS:
            raise BadInput(f"coder {self.coder!r}, expected one of {', '.join(CODERS)}")

    def write(
        self, items: Mapping[str, Representation], settings: dict[str, Any], verdict: dict[str, Any] | None
    ) -> int:
        self.coder = _settled(self.coder, items)
        self.written = self.out.write(HEADER)
        numbers = {name: number for number, name in enumerate(items)}
        _check_count(len(numbers))
        digest = Digest()
        for name, item in items.items():
            _check_name(name)
            self.entries.append(self._entry(name, item, numbers))
            if self.digest:
                digest.add(name, item.dtype, item.shape, _content(item))
        for entry in self.entries:
            self._check_tie(entry)
        for product in self.products:
            self.entries.append(self._grid_entry("", product.left))
            self.entries.append(self._grid_entry("", product.right))
        _check_count(len(self.entries))
        self._write_shared()
        index = Index(self.entries, self.own + self.shared, settings, verdict, digest.value())
        return self.written + finish(self.out, index)

    def _entry(self, name: str, item: Representation, numbers: Mapping[str, int]) -> Entry:
        if isinstance(item, Constant):
            return Entry(name, Signature(CONSTANT, item.dtype, item.shape, item.value))
        if isinstance(item, Tied):
            if item.target not in numbers:
                raise BadInput(f"tensor {name!r} is tied to {item.target!r}, which is missing")
            return Entry(name, Signature(TIED, item.dtype, item.shape), target=numbers[item.target])
        if isinstance(item, Grid):
            return self._grid_entry(name, item)
        if isinstance(item, Product):
            self.products.append(item)
            signature = Signature(PRODUCT, item.dtype, item.shape, bytes([item.split]))
            return Entry(name, signature, target=len(numbers) + 2 * len(self.products) - 2)
        if isinstance(item, Raw):
            if item.size >= SMALL_RAW:
                for plane in split(item.data, item.dtype):
                    self._own(encode_bytes(plane))
            elif item.size:
                self.raws.setdefault(item.dtype, {})[len(self.entries)] = item.data
            return Entry(name, Signature(RAW, item.dtype, item.shape))
        raise BadInput(f"tensor {name!r} is a {type(item).__name__}, expected a representation")

    def _grid_entry(self, name: str, item: Grid) -> Entry:
        signature, stream = Signature(GRID, item.dtype, item.shape), OWN
        if item.size >= (SMALL_GRID if self.coder == "fast" else LARGE_GRID):
            chunks = self._encode(item, signature.columns)
            stream = CLASSES if len(chunks) > 1 else OWN
            for chunk in chunks:
                self._own(chunk)
        elif item.size:
            self.grids[len(self.entries)] = item.codes
        return Entry(name, signature, item.step, item.edge, stream=stream, form=item.form)

    def _check_tie(self, entry: Entry) -> None:
        """What a tie needs to be readable; checked in the end, since a target may follow what is tied to it."""
        own = entry.signature
        if own.kind != TIED:
            return
        target = self.entries[entry.target]
        if target.signature.kind == TIED:
            other = self.entries[target.target].name
            raise BadInput(f"tensor {entry.name!r} is tied to {target.name!r}, which is itself tied to {other!r}")
        if (target.signature.shape, target.signature.dtype) != (own.shape, own.dtype):
            found = f"{target.name!r} of {target.signature.dtype} {target.signature.shape}"
            raise BadInput(f"tensor {entry.name!r} of {own.dtype} {own.shape} is tied to {found}")

    def _encode(self, item: Grid, columns: int) -> list[Chunk]:
        """A large grid on its own."""
        if self.coder == "max":
            return [encode_in_context(item.codes, [item.shape])]
        return encode_matrix(item.codes, columns)

    def _own(self, chunk: Chunk) -> None:
        self.own.append(self._emit(chunk))

    def _emit(self, chunk: Chunk) -> Stream:
        for part in (chunk.table or b"", *chunk.blocks):
            self.written += self.out.write(part)
        return chunk.stream

    def _write_shared(self) -> None:
        if self.grids:
            self._share_grids(list(self.grids))
        for dtype, data in self.raws.items():
            self._share(list(data), [encode_bytes(plane) for plane in split(b"".join(data.values()), dtype)])

    def _share_grids(self, numbers: list[int]) -> None:
        if self.coder == "max":
            shapes = [self.entries[number].signature.shape for number in numbers]
            chunk = encode_in_context(np.concatenate(list(self.grids.values())), shapes, limits.FREE_SYMBOLS)
            if chunk.in_context:
                return self._share(numbers, [chunk])
        for members in group([self.grids[number] for number in numbers]):
            chosen = [numbers[i] for i in members]
            self._share(chosen, [encode_codes(np.concatenate([self.grids[number] for number in chosen]))])

    def _share(self, numbers: list[int], chunks: list[Chunk]) -> None:
        stream = len(self.shared) + SHARED
        for number in numbers:
            self.entries[number] = self.entries[number]._replace(stream=stream)
        self.shared += [self._emit(chunk) for chunk in chunks]


def _settled(coder: str, items: Mapping[str, Representation]) -> str:
    """What "auto" means for these tensors."""
    if coder != "auto":
        return coder
    codes = 0
    for item in items.values():
        parts = (item.left, item.right) if isinstance(item, Product) else (item,)
        codes += sum(part.size for part in parts if isinstance(part, Grid))
        if codes >= AUTO_CODES:  # the rest need not be made
            return "fast"
    return "max"


def _content(item: Representation) -> NDArray[Any] | str:
    """What the digest covers of a tensor."""
    if isinstance(item, Tied):
        return item.target
    return item.view() if isinstance(item, Raw) else item.storage()


def _check_count(tensors: int) -> None:
    if tensors > limits.TENSORS:
        raise BadInput(f"{tensors} tensors, expected at most {limits.TENSORS}")


def _check_name(name: str) -> None:
    try:
        data = name.encode()
    except (UnicodeEncodeError, AttributeError) as error:
        raise BadInput(f"the name {name!r} cannot be written as UTF-8") from error
    if len(data) > limits.NAME_BYTES or b"\0" in data:
        raise BadInput(
            f"a name of {len(data)} bytes, expected at most {limits.NAME_BYTES} and no zero byte: {name[:80]!r}"
        )
