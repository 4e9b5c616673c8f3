"""The attacks: each makes one bad file; a docstring says what it is, the decorator what the reader must answer."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from attacks.forge import NumberWriter, chunks_of, columns_of, data_of, forge, rechunk, seal, small_model, tail_of
from noworse.format import File, pack
from noworse.format.chunks import Chunk, encode_codes
from noworse.format.columns import varints
from noworse.format.writer import HEADER, deflate
from noworse.representation import Constant, Grid, Raw, Representation


@dataclass(frozen=True)
class Attack:
    """A bad file, what it is, and a part of the message with which it must be refused."""

    name: str
    what: str
    answer: str
    data: Callable[[], bytes]


ATTACKS: list[Attack] = []
FLOAT32 = b"\x0a"  # kind constant, dtype float32


def attack(answer: str) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    """Register a maker of a file."""

    def register(make: Callable[[], bytes]) -> Callable[[], bytes]:
        ATTACKS.append(Attack(make.__name__.replace("_", "-"), " ".join((make.__doc__ or "").split()), answer, make))
        return make

    return register


@cache
def model() -> File:
    """The honest file that most attacks start from: six tensors, one of every kind and a tie."""
    return File(pack(small_model(), {"seed": 1}, {"verdict": "no worse"}))


def one(item: Representation) -> File:
    """An honest file of one tensor."""
    return File(pack({"a": item}, {}, None))


def index_alone(text: bytes, behind: bytes = bytes(16)) -> bytes:
    """A file without data."""
    return seal(HEADER, deflate(text) + behind, len(text))


def tensors(count: int, signature: bytes, rest: bytes) -> bytes:
    """An index of that many tensors of one signature: names, signatures and whatever follows."""
    names = b"".join(b"%06d\0" % number for number in range(count))
    return varints([count]) + bytes(count) + names + b"\1" + signature + bytes(count) + rest


# --- the whole file -----------------------------------------------------------------------------------------------


@attack("expected at least 20: it is truncated")
def header_alone() -> bytes:
    """A header and nothing else."""
    return HEADER


@attack("not a .nwt file: it begins with")
def other_format() -> bytes:
    """The beginning of a zip archive, as torch.save writes it."""
    return b"PK\3\4" + bytes(60)


@attack("a file of version 2, expected version 1")
def newer_version() -> bytes:
    """A version that does not exist yet."""
    data = model().raw(0, model().size)
    return data[:6] + struct.pack("<H", 2) + data[8:]


@attack("damaged or truncated")
def truncated() -> bytes:
    """The last byte is missing."""
    return model().raw(0, model().size - 1)


@attack("the data end at byte")
def hole() -> bytes:
    """A byte between data and index that no stream owns: room for a second file in the same bytes."""
    text = b"".join(columns_of(model()).values())
    return seal(data_of(model()) + b"\0", deflate(text) + tail_of(model()), len(text))


@attack("the data end at byte")
def overlap() -> bytes:
    """Streams longer than the data: their ends reach into the index."""
    file = model()
    streams = [replace(stream, blocks=tuple(n + 1 for n in stream.blocks)) for stream in file.index.streams]
    lengths = varints([(s.table or 0) + (s.table is not None) for s in streams])
    blocks = varints([n for s in streams if s.table is not None for n in s.blocks])
    return forge(file, lengths=lengths + blocks)


@attack("is damaged: its crc32 is")
def wrong_checksum() -> bytes:
    """One bit of a block flipped."""
    data = bytearray(model().raw(0, model().size))
    data[len(HEADER) + 4] ^= 1
    return bytes(data)


@attack("the tensors decode to digest")
def wrong_digest() -> bytes:
    """Valid in every part, but the digest is that of other tensors."""
    return forge(model(), behind=tail_of(model())[:-16] + bytes(16))


# --- the index ----------------------------------------------------------------------------------------------------


@attack("an index of 4294967295 bytes")
def index_larger_than_file() -> bytes:
    """The trailer announces an index of 4 GiB."""
    return seal(HEADER, deflate(bytes(3)) + bytes(16), 3, index_length=(1 << 32) - 1)


@attack("an index of 4294967295 bytes, expected at most 16777216")
def index_inflating_to_gigabytes() -> bytes:
    """The trailer announces columns of 4 GiB inflated."""
    return seal(HEADER, deflate(bytes(3)) + bytes(16), (1 << 32) - 1)


@attack("the index inflates to 101 bytes or more, expected exactly 100")
def deflate_bomb() -> bytes:
    """100 bytes of columns are announced, 20 MB follow."""
    return seal(HEADER, deflate(bytes(20_000_000)), 100)


@attack("the index cannot be inflated")
def no_deflate() -> bytes:
    """The index is no deflate stream."""
    return seal(HEADER, b"\xff" * 40, 100)


@attack("10000000 tensors, expected at most")
def ten_million_tensors() -> bytes:
    """A count of tensors beyond every limit."""
    return index_alone(varints([10_000_000]) + bytes(100))


@attack("900000 tensors, expected at most")
def tensors_beyond_max_bytes() -> bytes:
    """900,000 tensors of no elements in a few kilobytes: their names and entries alone would fill memory."""
    return index_alone(varints([900_000]) + bytes(900_000))


@attack("3000000 signatures of 1 tensors, expected at most one each")
def signatures_beyond_tensors() -> bytes:
    """Three million signatures that no tensor uses."""
    return index_alone(varints([1, 0]) + b"a\0" + varints([3_000_000]) + bytes(6_000_000))


@attack("a number of more than 9 bytes")
def endless_number() -> bytes:
    """A varint that does not end."""
    return index_alone(b"\xff" * 5000)


@attack("the index ends within names")
def missing_columns() -> bytes:
    """The columns end after the first one has begun."""
    return index_alone(varints([2, 0, 0]) + b"a\0b")


@attack("two tensors are called 'a'")
def equal_names() -> bytes:
    """Two tensors of one name: which one is loaded?"""
    return index_alone(varints([2, 0, 0]) + b"a\0a\0")


@attack("a name of 4099 bytes")
def long_names() -> bytes:
    """Names that grow by front coding."""
    return index_alone(varints([2, 0, 4094]) + b"a" * 4094 + b"\0" + b"bcdef\0")


@attack("a name is not UTF-8")
def name_without_encoding() -> bytes:
    """Bytes that are no text."""
    return index_alone(varints([1, 0]) + b"\xc0\xaf\0")


@attack("a shape of 255 dimensions, expected at most 8")
def dimensions() -> bytes:
    """A tensor of 255 dimensions."""
    return index_alone(tensors(1, FLOAT32 + b"\xff" + bytes(255) + bytes(4), bytes(2)))


@attack("has more than 2**56 elements")
def overflowing_shape() -> bytes:
    """Extents whose product does not fit 64 bits."""
    return index_alone(tensors(1, FLOAT32 + b"\2" + varints([1 << 33, 1 << 33]) + bytes(4), bytes(2)))


@attack("has more than 2**56 elements")
def overflowing_empty_shape() -> bytes:
    """The same beside an extent of zero: no elements, but some libraries multiply the others all the same."""
    return index_alone(tensors(1, FLOAT32 + b"\3" + varints([0, 1 << 40, 1 << 40]) + bytes(4), bytes(2)))


@attack("bytes when decoded, more than max_bytes=")
def constant_bomb() -> bytes:
    """One value repeated 2**40 times: 100 bytes that decode to 4 TiB."""
    return index_alone(tensors(1, FLOAT32 + b"\1" + varints([1 << 40]) + bytes(4), bytes(2)))


@attack("is tied to one that is itself tied")
def tie_to_itself() -> bytes:
    """A tie that leads nowhere, for ever."""
    return forge(model(), ties=varints([5]))


@attack("is tied to tensor 9000 of 6")
def tie_to_nothing() -> bytes:
    """A tie to a tensor that does not exist."""
    return forge(model(), ties=varints([9000]))


@attack("a tensor uses shared stream")
def distant_stream() -> bytes:
    """A shared stream with a number of 62 bits."""
    return forge(model(), streams=varints([2, 2, 1 << 62]))


@attack("streams, for whose checksums or description there is no room")
def streams_without_data() -> bytes:
    """20,000 tensors of 16 streams each in a few kilobytes."""
    return index_alone(tensors(20_000, bytes([1 << 5 | 19, 0]), bytes(17 * 20_000 + 2)))


@attack("blocks in 1 streams, expected at most 4")
def blocks_without_data() -> bytes:
    """A tensor of one byte per element whose blocks number a thousand, without a checksum for any."""
    return index_alone(tensors(1, bytes([1 << 5 | 1, 1]) + varints([1 << 28]), bytes(4)))


@attack("kind 7 of dtype 31")
def unknown_kind() -> bytes:
    """A kind and a dtype that do not exist."""
    return index_alone(tensors(1, b"\xff\0", bytes(2)))


@attack("a grid of dtype int64")
def grid_of_integers() -> bytes:
    """A grid whose dtype has no fractions."""
    return index_alone(tensors(1, bytes([2 << 5 | 8, 0]), bytes(2)))


@attack("a packed step of 0")
def step_of_zero() -> bytes:
    """A step size of zero."""
    return forge(model(), scales=bytes([0, 0, 32, 32]), behind=bytes(2) + tail_of(model())[2:])


@attack("a bool constant of value 7")
def bool_of_seven() -> bytes:
    """A truth value that is neither: undefined behaviour for whoever trusts it."""
    return forge(one(Constant(b"\1", (1,), "bool")), shapes=varints([1]) + bytes([0, 1, 1, 7, 0]))


@attack("the settings are nested deeper than 32 levels")
def deep_json() -> bytes:
    """900 lists within one another: parsers recurse, and so does whoever prints them."""
    text = b'{"a":' + b"[" * 900 + b"]" * 900 + b"}"
    return forge(model(), settings=varints([len(text)]) + text)


@attack("the settings are no JSON")
def deepest_json() -> bytes:
    """100,000 lists within one another."""
    text = b"[" * 100_000
    return forge(model(), settings=varints([len(text)]) + text)


@attack("the settings take 9000005 bytes, expected at most 1048576")
def large_json() -> bytes:
    """Three million empty lists, which take twenty times as much memory as text."""
    text = b'{"a":[' + b"[]," * 2_999_999 + b"]}"
    return forge(model(), settings=varints([len(text)]) + text)


@attack("an integer of 100000 characters, expected at most 40")
def long_integer() -> bytes:
    """A number whose conversion takes quadratic time."""
    text = b'{"a":' + b"9" * 100_000 + b"}"
    return forge(model(), verdict=varints([len(text)]) + text)


# --- tables and blocks --------------------------------------------------------------------------------------------


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
