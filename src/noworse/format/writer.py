"""Tensors to a file, one after the other: only small tensors, which share streams, are held back until the end."""

import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from noworse.codec import BLOCK
from noworse.errors import BadInput
from noworse.format import limits
from noworse.format.chunks import (
    Chunk,
    encode_bytes,
    encode_codes,
    encode_in_context,
    encode_matrix,
    encode_planes,
    estimate_matrix,
)
from noworse.format.documents import dump
from noworse.format.groups import group
from noworse.format.index import DIGEST_BYTES, HEADER, OWN, SEVERAL, SHARED, Entry, Index, Stream, digested, finish
from noworse.format.reader import File
from noworse.format.source import atomic_file
from noworse.representation import BYTES, CODES, Representation

Items: TypeAlias = Mapping[str, Representation]
Json: TypeAlias = dict[str, Any]
V = TypeVar("V", covariant=True)
PIECE = 1 << 20  # bytes copied at a time
SMALL_CODES = 1 << 14  # elements below which tensors of codes may share a stream
SMALL_BYTES = 1 << 10
LARGE_CODES = 1 << 19  # elements from which on context-coded ones have a stream of their own, to be read alone
WORTH = 1 / 512  # bytes per code that it must save then: some 10 kB for a second that loading takes longer
AUTO_CODES = 1 << 20  # of all tensors together: with fewer, "auto" means "max", which then takes less than seconds
# how codes are written: "fast" with frequency tables (rANS), "max" context-coded where that pays, or one of these
CODERS = ("auto", "fast", "max")


class Lazy(Mapping[str, V]):
    """Values by name from functions without arguments, which are called anew for every look-up."""

    def __init__(self, makers: Mapping[str, Callable[[], V]]) -> None:
        self._makers = makers

    def __len__(self) -> int:
        return len(self._makers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __getitem__(self, name: str) -> V:
        return self._makers[name]()


def pack(items: Items, settings: Json, verdict: Json | None, coder: str = "fast") -> bytes:
    """Return the whole file as bytes; BadInput for what cannot be stored."""
    out = io.BytesIO()
    _Writer(out, coder).write(items, settings, verdict)
    return out.getvalue()


def packed_size(items: Items, settings: Json, verdict: Json | None, coder: str = "fast") -> int:
    """Return ``len(pack(...))``, faster: nothing is kept, and the digest, whose length is known, is not computed."""
    return _Writer(_Counter(), coder, digest=False).write(items, settings, verdict)


def estimated_size(items: Items, settings: Json) -> int:
    """Return about ``len(pack(...))``: nothing large is coded."""
    return _Writer(_Counter(), "fast", digest=False, estimate=True).write(items, settings, None)


def write(path: str | Path, items: Items, settings: Json, verdict: Json | None = None, coder: str = "fast") -> int:
    """Write a file whole or not at all and return its bytes; BadInput where the path cannot be written."""
    with atomic_file(path) as out:
        return overwrite(out, items, settings, verdict, coder)


def overwrite(out: BinaryIO, items: Items, settings: Json, verdict: Json | None = None, coder: str = "fast") -> int:
    """Write what ``write`` does over all that an open file holds."""
    out.seek(0)
    out.truncate()
    return _Writer(out, coder).write(items, settings, verdict)


def restamp(path: str | Path, verdict: Json | None) -> int:
    """Replace the verdict in the index and return the size of the file; data chunks stay byte for byte the same."""
    with File(path, max_bytes=1 << 63) as file:
        end = len(HEADER) + sum(stream.nbytes for stream in file.index.streams)
        with atomic_file(path) as out:
            for start in range(0, end, PIECE):
                out.write(file.raw(start, min(PIECE, end - start)))
            return end + out.write(finish(replace(file.index, verdict=dump("verdict", verdict))))


class _Counter(io.BytesIO):
    """Takes bytes and forgets them."""

    def write(self, data: Any) -> int:
        """Return the number of bytes that a file would have taken."""
        return len(data)


@dataclass
class _Writer:
    out: BinaryIO
    coder: str
    digest: bool = True
    estimate: bool = False  # of the bytes of large tensors of codes
    entries: list[Entry] = field(default_factory=list)
    own: list[Stream] = field(default_factory=list)
    shared: list[Stream] = field(default_factory=list)
    written: int = 0
    codes: dict[int, NDArray[np.int32]] = field(default_factory=dict)  # of small tensors, by number
    planes: dict[str, dict[int, list[NDArray[np.uint8]]]] = field(default_factory=dict)  # of small ones, by dtype
    factors: list[Representation] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.coder not in CODERS:
            raise BadInput(f"coder {self.coder!r}, expected one of {', '.join(CODERS)}")

    def write(self, items: Items, settings: Json, verdict: Json | None) -> int:
        self.coder = _settled(self.coder, items)
        self.written = self.out.write(HEADER)
        numbers = {name: number for number, name in enumerate(items)}
        _check_count(len(numbers))
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        for name, item in items.items():
            _check_name(name)
            self.entries.append(self._entry(name, item, numbers))
            if self.digest:
                content = str(item.others[0]) if item.refers else item.fingerprint() if item.size else None
                digest.update(digested(name, item.dtype, item.shape, content))
        for entry in self.entries:
            self._check_tie(entry)
        for factor in self.factors:
            self.entries.append(self._entry("", factor, numbers))
        _check_count(len(self.entries))
        self._write_shared()
        texts = dump("settings", settings or None), dump("verdict", verdict)
        index = Index(self.entries, self.own + self.shared, *texts, digest.digest())
        return self.written + self.out.write(finish(index))

    def _entry(self, name: str, item: Representation, numbers: Mapping[str, int]) -> Entry:
        if not isinstance(item, Representation):
            raise BadInput(f"tensor {name!r} is a {type(item).__name__}, expected a representation")
        target = len(numbers) + len(self.factors) if item.factors else 0
        for other in item.others:
            if isinstance(other, Representation):
                self.factors.append(other)
            elif other not in numbers:
                raise BadInput(f"tensor {name!r} is tied to {other!r}, which is missing")
            else:
                target = numbers[other]
        stream = self._write_symbols(item) if item.size else OWN
        return Entry(name, item.signature, item.fields, target, stream)

    def _write_symbols(self, item: Representation) -> int:
        """The streams of the next tensor, or what is to be shared later on."""
        if item.holds == CODES:
            (codes,) = item.symbols()
            if item.size < (SMALL_CODES if self.coder == "fast" else LARGE_CODES):
                self.codes[len(self.entries)] = codes
                return OWN
            columns = item.signature.columns
            if self.estimate:
                self.own.append(estimate_matrix(codes, columns))
                self.written += self.own[-1].nbytes
                return OWN
            if self.coder == "max":
                chunks = encode_in_context(codes, [item.shape], columns, worth=WORTH)
            else:
                chunks = encode_matrix(codes, columns)
            self.own += map(self._emit, chunks)
            return SEVERAL if len(chunks) > 1 else OWN
        if item.holds == BYTES and item.size < SMALL_BYTES:
            self.planes.setdefault(item.dtype, {})[len(self.entries)] = list(item.symbols())
        elif item.holds == BYTES:
            self.own += map(self._emit, encode_planes(item.storage(), item.dtype))
            return SEVERAL if item.size > BLOCK else OWN
        return OWN

    def _check_tie(self, entry: Entry) -> None:
        """What a tie needs to be readable; checked in the end, since a target may follow what is tied to it."""
        own = entry.signature
        if not own.kind.refers:
            return
        target = self.entries[entry.target]
        if target.signature.kind.refers:
            other = self.entries[target.target].name
            raise BadInput(f"tensor {entry.name!r} is tied to {target.name!r}, which is itself tied to {other!r}")
        if (target.signature.shape, target.signature.dtype) != (own.shape, own.dtype):
            found = f"{target.name!r} of {target.signature.dtype} {target.signature.shape}"
            raise BadInput(f"tensor {entry.name!r} of {own.dtype} {own.shape} is tied to {found}")

    def _emit(self, chunk: Chunk) -> Stream:
        for part in (chunk.table or b"", *chunk.blocks):
            self.written += self.out.write(part)
        return chunk.stream

    def _write_shared(self) -> None:
        if self.codes:
            self._share_codes(list(self.codes), list(self.codes.values()))
        for planes in self.planes.values():
            self._share(list(planes), map(_whole, zip(*planes.values())))

    def _share_codes(self, numbers: list[int], codes: list[NDArray[np.int32]]) -> None:
        if self.coder == "max":
            shapes = [self.entries[number].signature.shape for number in numbers]
            chunks = encode_in_context(np.concatenate(codes), shapes, free=limits.FREE_SYMBOLS)
            if chunks[0].in_context:
                return self._share(numbers, chunks)
        for members in group(codes):
            self._share([numbers[i] for i in members], [encode_codes(np.concatenate([codes[i] for i in members]))])

    def _share(self, numbers: list[int], chunks: Iterable[Chunk]) -> None:
        stream = len(self.shared) + SHARED
        for number in numbers:
            self.entries[number] = self.entries[number]._replace(stream=stream)
        self.shared += [self._emit(chunk) for chunk in chunks]


def _whole(parts: Sequence[NDArray[np.uint8]]) -> Chunk:
    """One stream of the bytes of several tensors."""
    data = np.concatenate(parts)
    return next(encode_bytes(data, data.size))


def _settled(coder: str, items: Items) -> str:
    """What "auto" means for these tensors."""
    if coder != "auto":
        return coder
    codes = 0
    for item in items.values():
        parts = item.others if item.factors else [item]
        codes += sum(part.size for part in parts if isinstance(part, Representation) and part.holds == CODES)
        if codes >= AUTO_CODES:  # the rest need not be made
            return "fast"
    return "max"


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
