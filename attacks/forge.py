"""Files forged part by part, checksums repaired: what a hostile writer might make of an honest file."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from noworse.format import File
from noworse.format.chunks import Chunk
from noworse.format.index import HEADER, columns, deflate, tail
from noworse.representation import Constant, Grid, Raw, Representation, Tied
from tests.codec.table_writer import Writer as NumberWriter

__all__ = ["NumberWriter", "chunks_of", "columns_of", "data_of", "forge", "rechunk", "seal", "small_model", "tail_of"]


def small_model() -> dict[str, Representation]:
    """One tensor of every kind."""
    rng = np.random.default_rng(3)
    codes = rng.laplace(size=64).astype(np.int32)
    return {
        "layer.weight": Grid(codes, 30000, 40, (8, 8), "float32"),
        "layer.bias": Grid(rng.integers(-9, 9, 8, np.int32), 30001, 32, (8,), "float32"),
        "norm.weight": Constant(np.float32(1).tobytes(), (8,), "float32"),
        "norm.running_mean": Raw(rng.normal(size=8).astype(np.float32).tobytes(), (8,), "float32"),
        "norm.num_batches_tracked": Constant((123).to_bytes(8, "little"), (), "int64"),
        "head.weight": Tied("layer.weight", (8, 8), "float32"),
    }


def columns_of(file: File) -> dict[str, bytes]:
    """The columns of the index by category, in order."""
    parts: dict[str, bytes] = {}
    for what, data in columns(file.index):
        parts[what] = parts.get(what, b"") + data
    return parts


def tail_of(file: File) -> bytes:
    """What follows the columns: low bytes of steps, checksums, digest."""
    return b"".join(data for _, data in tail(file.index))


def data_of(file: File) -> bytes:
    """Header and streams."""
    return file.raw(0, len(HEADER) + sum(stream.nbytes for stream in file.index.streams))


def chunks_of(file: File) -> list[Chunk]:
    """Table and blocks of every stream."""
    at, chunks = len(HEADER), []
    for stream in file.index.streams:
        table = None if stream.table is None else file.raw(at, stream.table)
        at += stream.table or 0
        blocks = []
        for length in stream.blocks:
            blocks.append(file.raw(at, length))
            at += length
        chunks.append(Chunk(table, blocks, stream.in_context))
    return chunks


def forge(file: File, text: bytes | None = None, behind: bytes | None = None, **replaced: bytes) -> bytes:
    """The file with columns of its index replaced, or all of their ``text``, or the tail ``behind`` them."""
    if text is None:
        text = b"".join(replaced.get(what, data) for what, data in columns_of(file).items())
    return seal(data_of(file), deflate(text) + (tail_of(file) if behind is None else behind), len(text))


def rechunk(file: File, chunks: Sequence[Chunk]) -> bytes:
    """The file with other streams, their lengths and checksums as they should be."""
    index = replace(file.index, streams=[chunk.stream for chunk in chunks])
    text = b"".join(data for _, data in columns(index))
    data = HEADER + b"".join(b"".join([chunk.table or b"", *chunk.blocks]) for chunk in chunks)
    return seal(data, deflate(text) + b"".join(part for _, part in tail(index)), len(text))


def seal(data: bytes, index: bytes, raw_length: int, index_length: int | None = None) -> bytes:
    """Data and index with a valid trailer."""
    lengths = struct.pack("<II", len(index) if index_length is None else index_length, raw_length)
    return data + index + lengths + struct.pack("<I", zlib.crc32(lengths, zlib.crc32(index, zlib.crc32(HEADER))))
