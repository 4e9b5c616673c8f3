"""Bad tables and blocks: a docstring says what each file is, the decorator what the reader must answer."""

from __future__ import annotations

import numpy as np

from attacks.base import attack, model, one
from attacks.forge import NumberWriter, chunks_of, forge, rechunk
from noworse.format import File, pack
from noworse.format.chunks import Chunk, encode_codes
from noworse.representation import Grid, Raw
from noworse.representation.columns import varints


def with_table(table: bytes) -> bytes:
    """The honest file with another table in the stream of its codes."""
    chunks = chunks_of(model())
    return rechunk(model(), [Chunk(table, chunks[0].blocks), *chunks[1:]])


@attack("a frequency table has 20000 bytes, expected at most 16384")
def long_table() -> bytes:
    """A table so long that reading it would take quadratic time."""
    return with_table(b"\xff" * 20_000)


@attack("a number in a frequency table has more than 32 bits")
def endless_table() -> bytes:
    """A number in a table that does not end."""
    return with_table(b"\xff" * 100)


@attack("symbols, expected 1 .. 4096")
def table_of_many_symbols() -> bytes:
    """An alphabet of 2**32 symbols in a few bytes."""
    out = NumberWriter()
    out.uniform(1, 1)
    for _ in range(3):
        out.more(False, 4)
    for value, order in ((0, 0), (1 << 32, 2), (0, 1), (5, 4)):
        out.gamma(value, order)
    return with_table(out.to_bytes())


@attack("in size")
def table_of_far_symbols() -> bytes:
    """An alphabet beyond the range of codes."""
    out = NumberWriter()
    out.uniform(1, 1)
    out.more(False, 4)
    out.more(False, 4)
    out.more(True, 4)
    for value, order in ((0, 1), (4, 1), (2 << 31, 0), (0, 2), (0, 1), (5, 4)):
        out.gamma(value, order)
    return with_table(out.to_bytes())


@attack("is damaged")
def random_block() -> bytes:
    """A block of random bytes behind a valid table, with a valid checksum."""
    chunks = chunks_of(model())
    return rechunk(model(), [Chunk(chunks[0].table, [np.random.default_rng(0).bytes(40)]), *chunks[1:]])


@attack("is damaged")
def empty_block() -> bytes:
    """A block of no bytes for symbols that need some."""
    chunks = chunks_of(model())
    return rechunk(model(), [Chunk(chunks[0].table, [b""]), *chunks[1:]])


@attack("a constant stream has a block with bytes")
def constant_with_payload() -> bytes:
    """A constant stream with bytes that nobody reads: a place to hide something."""
    chunks = chunks_of(model())
    return rechunk(model(), [Chunk(b"", [b"hidden"]), *chunks[1:]])


@attack("a context-coded stream is damaged")
def random_contexts() -> bytes:
    """Random bytes where context-coded codes belong."""
    chunks = chunks_of(model())
    return rechunk(model(), [Chunk(None, [np.random.default_rng(0).bytes(400)], True), *chunks[1:]])


@attack("0 bytes of context-coded streams stand for 1310720 codes, expected at most 65536")
def contexts_without_bytes() -> bytes:
    """Twenty context-coded streams of no bytes, each small enough on its own: decoding them all would take seconds."""
    zeros = Grid(np.zeros(1 << 16, np.int32), 30000, 40, (1 << 16,), "float32")
    file = File(pack({str(number): zeros for number in range(20)}, {}, None))
    return rechunk(file, [Chunk(None, [b""], True)] * 20)


@attack("a bool tensor with bytes other than 0 and 1")
def raw_bool() -> bytes:
    """Truth values of 1 and 2."""
    return forge(one(Raw(b"\1\2", (2,), "uint8")), shapes=varints([1]) + bytes([1 << 5, 1, 2, 0]))


@attack("tensor 'b' shares a stream with tensors of another kind")
def bytes_of_unlike_width() -> bytes:
    """A float32 and a float16 tensor whose bytes share streams, so that two of four have twice as many."""
    items = {"a": Raw(bytes(range(40)), (10,), "float32"), "b": Raw(bytes(range(20)), (10,), "float16")}
    return forge(File(pack(items, {}, None)), streams=varints([2, 2]))


@attack("has a stream for each block, expected several")
def pieces_of_one_block() -> bytes:
    """A tensor of one block that claims to have a stream for each."""
    return forge(one(Raw(bytes(range(256)) * 8, (2048,), "uint8")), streams=varints([1]))


@attack("512 streams of tensor 'a', expected at most 20")
def pieces_without_checksums() -> bytes:
    """A tensor of 512 pieces, sixteen for each block, in an index that has room for few checksums."""
    file = one(Raw(np.random.default_rng(0).bytes(1024 * 16), (1024,), "complex128"))
    return forge(file, shapes=varints([1]) + bytes([1 << 5 | 19, 1]) + varints([1 << 23, 0]), streams=varints([1]))


def matrix() -> File:
    """An honest file of one matrix whose rows differ in scale, so that it has classes."""
    row, column = np.divmod(np.arange(16384), 128)
    codes = np.random.default_rng(0).integers(-2, 3, 16384) * (row % 8 == 0) * (1 + 9 * (column % 2))
    return one(Grid(codes.astype(np.int32), 30000, 40, (128, 128), "float32"))


@attack("the classes of a stream are too many")
def classes_of_gigabytes() -> bytes:
    """Classes that exceed their number by one, and then by 2**33: a table of 11 bytes that asks for 8 GiB."""
    out = NumberWriter()
    out.uniform(15, 4)
    for width in (62, 0, (1 << 33) - 2):
        out.gamma(width, 0)
    *scales, codes = chunks_of(matrix())
    return rechunk(matrix(), [*scales, Chunk(out.to_bytes(), codes.blocks)])


@attack("a stream with classes has no table")
def classes_in_context() -> bytes:
    """A matrix with scales of rows and columns whose codes are context-coded."""
    *scales, codes = chunks_of(matrix())
    return rechunk(matrix(), [*scales, Chunk(None, codes.blocks, True)])


@attack("the scale of a row is out of range")
def scale_of_many() -> bytes:
    """Scales of rows beyond 31, which would choose a table that does not exist."""
    _, *others = chunks_of(matrix())
    return rechunk(matrix(), [encode_codes(np.full(128, 99, np.int32)), *others])
