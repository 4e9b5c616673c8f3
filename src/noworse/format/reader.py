"""A file opened for reading: its index at once, its tensors one by one."""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.codec import CodedGrid, CodedPlanes, Decoding, fingerprint
from noworse.errors import BadInput, CorruptFile
from noworse.format import limits
from noworse.format.attribution import attribute
from noworse.format.documents import load
from noworse.format.index import DIGEST_BYTES, HEADER, Entry, digested
from noworse.format.parse import parse
from noworse.format.source import Source
from noworse.format.streams import Arena, Streams
from noworse.representation import Representation, find_dtype, from_float32, to_numpy

TRAILER_BYTES = 12
MAGIC_BYTES = 6
METADATA = "metadata"  # the setting that holds texts which came with the tensors
BATCH = 1 << 22  # elements decoded at once, which threads share ..
BATCH_TENSORS = 1 << 9  # .. in no more tensors than that, each of which takes some kilobytes beside its elements
_Content = tuple[NDArray[Any], int | None]  # stored elements, and their fingerprint where decoding made one
_Started = tuple[dict[int, CodedGrid | CodedPlanes], Decoding]  # tensors by number, and the threads that decode them


class File:
    """A .nwt file, or its bytes, whose tensors are decoded one by one: a context manager.

    The index is read and checked on opening: ``settings`` say how the file was made, ``verdict`` is the result of the
    test that it was put to, if any. ``max_bytes`` limits the decoded size of all tensors together (default: 256 MiB
    plus 1024 times the size of the file). CorruptFile for anything wrong; OSError as ``open`` has it.
    """

    def __init__(self, source: str | Path | bytes, max_bytes: int | None = None) -> None:
        self._in = Source(source)
        self.size = self._in.size
        try:
            self._open(max_bytes)
        except BaseException:
            self._in.close()
            raise

    def _open(self, max_bytes: int | None) -> None:
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
        self.index, uses, spans = parse(self._packed, raw, limit, self.size)
        self.settings = load("settings", self.index.settings) or {}
        self.verdict = load("verdict", self.index.verdict)
        self._numbers = {entry.name: number for number, entry in enumerate(self.index.tensors)}
        self._streams = Streams(self._in, self.index, uses, spans)
        if self._streams.end != start:
            raise CorruptFile(f"the data end at byte {self._streams.end}, expected {start} where the index begins")

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

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the file; whoever asks it for tensors afterwards gets BadInput."""
        self._in.close()

    @property
    def names(self) -> list[str]:
        """The names of all tensors, in file order."""
        return list(self._numbers)

    @property
    def metadata(self) -> dict[str, str]:
        """Texts by name that came with the tensors; anybody may have written them."""
        texts = self.settings.get(METADATA)
        return {key: text for key, text in texts.items() if isinstance(text, str)} if isinstance(texts, dict) else {}

    @property
    def digest(self) -> str:
        """Fingerprint of the decoded tensors, 32 hexadecimal digits."""
        return self.index.digest.hex()

    def offset(self, name: str) -> int:
        """Return where the data of a tensor, of its target or of its factors begin in the file."""
        number = self._number(name)
        _, signature, _, target, _ = self.index.entries[number]
        return self._streams.offset(target if signature.kind.refers or signature.kind.factors else number)

    def entry(self, name: str) -> Entry:
        """Return what the index says about one tensor; BadInput for an unknown name."""
        return self.index.entries[self._number(name)]

    def representation(self, name: str) -> Representation:
        """Return one tensor as it is written, ready to decode; CorruptFile where its data are damaged."""
        number = self._number(name)
        with self._naming(number):
            return self._representation(number)

    def _representation(self, number: int) -> Representation:
        _, signature, fields, target, _ = self.index.entries[number]
        others: list[Any] = [self.index.entries[target].name] if signature.kind.refers else []
        others += [self._representation(target + i) for i in range(signature.kind.factors)]
        return signature.kind.assemble(signature, fields, self._streams.parts(number), others)

    def storage(self, name: str) -> NDArray[Any] | str:
        """Return the elements of a tensor (``Representation.storage``), writable, or its target's name where tied.

        The codes of large grids are never held as integers.
        """
        number = self._number(name)
        if self._streams.is_fused(number):
            return self._finish(self._start([number]))[number][0]
        return self._unfused(name)

    def _unfused(self, name: str) -> NDArray[Any] | str:
        item = self.representation(name)
        if item.refers:
            return str(item.others[0])
        stored = item.storage()
        return stored if stored.flags.writeable else stored.copy()

    def _start(self, numbers: list[int], arena: Arena | None = None) -> _Started:
        tensors = {}
        for number in numbers:
            with self._naming(number):
                tensors[number] = self._streams.coded(number, arena)
        return tensors, Decoding(list(tensors.values()), digest=True)

    def _finish(self, started: _Started) -> dict[int, _Content]:
        tensors, decoding = started
        contents = {}
        for (number, tensor), result in zip(tensors.items(), decoding.results(), strict=True):
            with self._naming(number):
                if isinstance(result, CorruptFile):
                    raise result
                contents[number] = self._content(number, tensor, result)
        return contents

    def _content(self, number: int, tensor: CodedGrid | CodedPlanes, known: int) -> _Content:
        """The elements of a tensor that native code has decoded, and their fingerprint where it is ``known``."""
        _, signature, fields, _, _ = self.index.entries[number]
        if isinstance(tensor, CodedPlanes):
            return tensor.out.view(find_dtype(signature.dtype).storage).reshape(signature.shape), known
        content = from_float32(tensor.out, signature.dtype).reshape(signature.shape)
        changed = signature.kind.restore(content, fields) or signature.dtype != "float32"
        return content, None if changed else known

    @contextmanager
    def _naming(self, number: int) -> Iterator[None]:
        """Says in errors which tensor they are about."""
        try:
            yield
        except (BadInput, CorruptFile) as error:
            self._in.check_open()
            raise CorruptFile(f"tensor {self.index.entries[number].name!r}: {error}") from error

    def array(self, name: str) -> NDArray[Any]:
        """Return the decoded tensor (see ``Representation.decode``); a tied one decodes its target."""
        stored = self.storage(name)
        return self.array(stored) if isinstance(stored, str) else to_numpy(stored, self.entry(name).signature.dtype)

    def stored(self) -> Iterator[tuple[str, NDArray[Any] | str]]:
        """Yield names with elements (``Representation.storage``), or with the target's name where tied.

        Compares the digest at the end: CorruptFile where it differs, so nothing is to be used before.
        """
        self._in.check_open()
        digest = hashlib.blake2b(digest_size=DIGEST_BYTES)
        fused = [number for number in self._numbers.values() if self._streams.is_fused(number)]
        arena = Arena(sum(self._streams.words(number) for number in fused))
        decoded: dict[int, _Content] = {}
        batches = self._batches(fused)
        ahead = self._start(next(batches, []), arena)
        for name, number in self._numbers.items():
            if number in ahead[0]:
                started, ahead = ahead, self._start(next(batches, []), arena)  # so that threads never wait for us
                decoded = self._finish(started)
            content, known = decoded.pop(number) if number in decoded else (self._unfused(name), None)
            signature = self.index.entries[number].signature
            if isinstance(content, str):
                told: int | str | None = content
            elif known is None and signature.size:
                told = fingerprint(np.ascontiguousarray(content).reshape(-1).view(np.uint8))
            else:
                told = known
            digest.update(digested(name, signature.dtype, signature.shape, told))
            yield name, content
        if digest.digest() != self.index.digest:
            raise CorruptFile(f"the tensors decode to digest {digest.hexdigest()}, expected {self.digest}")

    def _batches(self, numbers: list[int]) -> Iterator[list[int]]:
        """Tensors to be decoded together: BATCH elements or a little more, BATCH_TENSORS at most."""
        batch: list[int] = []
        size = 0
        for number in numbers:
            batch.append(number)
            size += self.index.entries[number].signature.size
            if size >= BATCH or len(batch) == BATCH_TENSORS:
                yield batch
                batch, size = [], 0
        yield batch

    def check(self) -> None:
        """Decode everything and compare the digest; CorruptFile where anything is wrong."""
        for _ in self.stored():
            pass

    def attribution(self) -> dict[str, int]:
        """Return bytes by category: payload, tables, scales, names, ...; they sum to the size of the file exactly."""
        return attribute(self.index, self._streams.uses, len(HEADER), TRAILER_BYTES, len(self._packed))

    def tensor_bytes(self, name: str) -> int:
        """Return the bytes of a tensor's payload and tables; shared streams are split by ideal code length."""
        number = self._number(name)
        _, signature, _, target, _ = self.index.entries[number]
        return sum(map(self._streams.nbytes, [number, *range(target, target + signature.kind.factors)]))

    def _number(self, name: str) -> int:
        self._in.check_open()
        number = self._numbers.get(name)
        if number is None:
            raise BadInput(f"no tensor is called {name!r}; the file has {', '.join(list(self._numbers)[:8])}, ...")
        return number

    def raw(self, start: int, count: int) -> bytes:
        """Return bytes of the file as they are."""
        return self._in.read(start, count)
