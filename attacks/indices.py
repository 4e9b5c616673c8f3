"""Bad headers, trailers and indices: a docstring says what each file is, the decorator what the reader must answer."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace

from attacks.base import attack, model, one
from attacks.forge import columns_of, data_of, forge, seal, tail_of
from noworse.codec import BLOCK
from noworse.format.index import HEADER, deflate
from noworse.representation import KINDS, Constant, Representation, find_dtype
from noworse.representation.columns import varints

FLOAT32 = b"\x0a"  # kind constant, dtype float32


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


@attack("kind 99 of dtype 31")
def unknown_kind() -> bytes:
    """A kind and a dtype that do not exist."""
    return index_alone(tensors(1, b"\xff\x63\x1f\0", bytes(2)))


def of_integers(kind: type[Representation]) -> Callable[[], bytes]:
    """A maker of a tensor of this kind whose dtype it has not."""

    def make() -> bytes:
        return index_alone(tensors(1, bytes([kind.number << 5 | find_dtype("int64").code, 0]), bytes(2)))

    make.__name__, make.__doc__ = f"{kind.label}_of_integers", f"A {kind.label} whose dtype has no fractions."
    return make


for _kind in KINDS.values():
    if "int64" not in _kind.dtypes:
        attack(f"a {_kind.label} of dtype int64")(of_integers(_kind))


@attack("a packed step of 0")
def step_of_zero() -> bytes:
    """A step size of zero."""
    return forge(model(), scales=bytes([0, 0, 32, 32]), behind=bytes(2) + tail_of(model())[2:])


@attack("a curve of number 77")
def unknown_curve() -> bytes:
    """A curve that does not exist."""
    return forge(model(), scales=bytes([9, 9, 0, 32, 32, 77]))


@attack("parameters (0,) of a log curve")
def curve_of_zero() -> bytes:
    """A curve whose parameter would be divided by."""
    return forge(model(), scales=bytes([9, 9, 0, 32, 32, 1, 0, 0]))


@attack("the index ends within channels")
def channels_without_bytes() -> bytes:
    """A step for each of 2**40 rows, of which none follows."""
    return index_alone(tensors(1, bytes([2 << 5 | 10, 2]) + varints([1 << 40, 0]), bytes([9, 0, 32, 128])), bytes(17))


@attack("packed steps of rows from")
def rows_without_steps() -> bytes:
    """Rows whose steps lie beyond those that exist."""
    return forge(model(), scales=bytes([254, 9, 0, 32, 32, 128]) + bytes(7) + b"\x7f")


@attack("a bool constant of value 7")
def bool_of_seven() -> bytes:
    """A truth value that is neither: undefined behaviour for whoever trusts it."""
    return forge(one(Constant(b"\1", (1,), "bool")), shapes=varints([1]) + bytes([0, 1, 1, 7, 0]))


def product(shape: tuple[int, int], left: tuple[int, int], right: tuple[int, int], kinds: tuple[int, int]) -> bytes:
    """A product of float16 whose factors are zeros, of those kinds."""
    blocks = [-(-m * n // BLOCK) for m, n in (left, right)]
    signatures = bytes(kind << 5 | 9 for kind in (4, *kinds)) + b"\2\2\2" + varints([*shape, *left, *right]) + b"\0"
    streams = bytes(2) + b"\x7a\x7a\x20\x20" + b"\1\1" + bytes(sum(blocks))
    text = varints([1, 0]) + b"a\0" + b"\3" + signatures + b"\0\1\2" + streams + bytes(2)
    return index_alone(text, bytes(2 + 4 * sum(blocks) + 16))


@attack("products of 147000000000 multiplications")
def product_bomb() -> bytes:
    """A kilobyte that decodes to no more than is allowed, but takes minutes of multiplications."""
    return product((7000, 7000), (7000, 3000), (3000, 7000), (2, 2))


@attack("products of 536870912 multiplications")
def product_of_few_bytes() -> bytes:
    """A hundred bytes that take a second of multiplications, every time that the tensor is asked for."""
    return product((1024, 1024), (1024, 512), (512, 1024), (2, 2))


@attack("has factors that are no grids")
def product_of_products() -> bytes:
    """A product whose factor is a product, which lacks factors of its own."""
    return product((9, 9), (9, 2), (2, 9), (4, 2))


@attack("factors (9, 2) and (3, 9) of a product")
def product_of_strangers() -> bytes:
    """Factors that cannot be multiplied."""
    return product((9, 9), (9, 2), (3, 9), (2, 2))


@attack("a product of rank 5 is larger than its 9 x 9 elements")
def product_larger_than_dense() -> bytes:
    """Factors that take more memory than what they stand for."""
    return product((9, 9), (9, 5), (5, 9), (2, 2))


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
