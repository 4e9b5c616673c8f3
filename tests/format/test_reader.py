from __future__ import annotations

import json
import os
import struct
import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from attacks.forge import columns_of, forge, seal, small_model
from noworse.codec import BLOCK
from noworse.errors import BadInput, CorruptFile
from noworse.format import File, limits, pack
from noworse.format.index import HEADER, Entry, columns, deflate, tail
from noworse.representation import Constant, Grid, Product, Raw, Signature, Tied
from noworse.representation.columns import varints

SETTINGS, VERDICT = {"seed": 1}, {"verdict": "improved"}


@pytest.fixture(scope="module")
def data():
    return pack(small_model(), SETTINGS, VERDICT)


@pytest.fixture
def file(data):
    return File(data)


def read(data):
    with File(data) as file:
        file.check()


def test_bytes_before_between_or_after_are_refused(data, file):
    read(data)
    start = len(HEADER) + sum(stream.nbytes for stream in file.index.streams)
    for at in (0, len(HEADER), start, len(data) - 12, len(data)):
        with pytest.raises(CorruptFile):
            read(data[:at] + b"\0" + data[at:])


def test_random_bytes_are_refused():
    rng = np.random.default_rng(0)
    for size in [0, 1, 7, 8, 19, 20, 21, 100, 1000]:
        with pytest.raises(CorruptFile):
            read(rng.integers(0, 256, size, np.uint8).tobytes())
        with pytest.raises(CorruptFile):
            read(HEADER + rng.integers(0, 256, size, np.uint8).tobytes())


def test_a_newer_version_is_refused_by_number(data):
    with pytest.raises(CorruptFile, match="a file of version 2, expected version 1: a newer noworse"):
        read(data[:6] + struct.pack("<H", 2) + data[8:])


def test_another_kind_of_file_is_named():
    with pytest.raises(CorruptFile, match=r"not a .nwt file: it begins with b'PK"):
        read(b"PK\3\4" + bytes(100))


def test_names_of_damaged_tensors_are_told(data):
    damaged = bytearray(data)
    damaged[len(HEADER) + 3] ^= 1
    with File(bytes(damaged)) as file:
        file.array("norm.weight")
        with pytest.raises(CorruptFile, match=r"tensor 'layer\.weight': block 0 of 1 is damaged: its crc32"):
            file.array("layer.weight")


@pytest.mark.parametrize(
    ("item", "kind"),
    [
        (
            Grid(np.arange(20_000, dtype=np.int32) % 7, 30000, 40, (20_000,), "float32"),
            "block 0 of 1 is damaged: its crc32",
        ),
        (Raw(np.random.default_rng(0).bytes(5000), (5000,), "uint8"), "block 0 is damaged: its crc32"),
    ],
    ids=["codes", "plain bytes"],
)
def test_a_damaged_stream_of_its_own_is_named(item, kind):
    damaged = bytearray(pack({"large": item}, {}, None))
    damaged[len(HEADER) + 50] ^= 1
    with pytest.raises(CorruptFile, match=f"tensor 'large': {kind}"):
        read(bytes(damaged))


def test_the_digest_is_compared(file):
    with pytest.raises(CorruptFile, match=r"the tensors decode to digest [0-9a-f]{32}, expected 0{32}"):
        read(forge(file, behind=b"".join(part for _, part in tail(file.index))[:-16] + bytes(16)))


def test_the_index_says_what_a_tensor_is(file):
    entry = file.entry("layer.weight")
    assert (entry.name, entry.fields[:2], entry.signature.shape) == ("layer.weight", (30000, 40), (8, 8))
    assert file.index.entries[file.entry("head.weight").target].name == "layer.weight"


def test_the_digest_can_be_shown(file):
    assert bytes.fromhex(file.digest) == file.index.digest


def test_a_file_that_shrinks_while_it_is_open_is_damaged(tmp_path, data):
    (tmp_path / "a.nwt").write_bytes(data)
    with File(tmp_path / "a.nwt") as file:
        os.truncate(tmp_path / "a.nwt", 20)
        with pytest.raises(
            CorruptFile, match=r"tensor 'layer\.weight': 12 bytes at offset 8, expected \d+: the file is truncated"
        ):
            file.check()


def test_max_bytes_refuses_before_decoding(data):
    total = sum(item.nbytes for item in small_model().values())
    File(data, max_bytes=total).check()
    with pytest.raises(CorruptFile, match=f"take {total} bytes when decoded, more than max_bytes={total - 1} allows"):
        File(data, max_bytes=total - 1)


def test_a_small_file_cannot_demand_much_memory_unasked():
    huge = pack_constant((1 << 40,))
    with pytest.raises(CorruptFile, match="take 4398046511104 bytes when decoded"):
        File(huge)
    assert File(huge, max_bytes=1 << 43).names == ["a"]
    assert limits.default_max_bytes(len(huge)) < 1 << 31


def pack_constant(shape):
    """A constant of any size, without decoding it for the digest."""
    with File(pack({"a": Constant(bytes(4), (1,), "float32")}, {}, None)) as file:
        entry = Entry("a", Signature(Constant, "float32", shape, bytes(4)))
        return forge(file, text=b"".join(part for _, part in columns(replace(file.index, entries=[entry]))))


def test_unknown_names_are_refused(file):
    with pytest.raises(BadInput, match=r"no tensor is called 'x'; the file has layer.weight, layer.bias"):
        file.array("x")


def test_a_missing_file_is_an_os_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        File(tmp_path / "missing.nwt")


def test_tensors_one_by_one(file):
    items = small_model()
    for name in reversed(items):
        target = items["layer.weight"] if name == "head.weight" else items[name]
        np.testing.assert_array_equal(file.array(name), target.decode())


def test_tensor_bytes_follow_the_code_lengths():
    rng = np.random.default_rng(0)
    items = {
        "rare": Grid(rng.integers(-9, 9, 100, np.int32), 9, 9, (100,), "float32"),
        "zero": Grid(np.where(np.arange(100) < 8, 5, 0).astype(np.int32), 9, 9, (100,), "float32"),
    }
    with File(pack(items, {}, None)) as file:
        if len(file.index.streams) == 1:
            assert file.tensor_bytes("rare") > 2 * file.tensor_bytes("zero")


def test_tensors_that_share_a_stream_share_its_bytes():
    codes = np.random.default_rng(0).laplace(size=200).astype(np.int32)
    items = {name: Grid(codes, 9, 9, (200,), "float32") for name in "ab"}
    with File(pack(items, {}, None)) as file:
        (stream,) = file.index.streams
        assert file.tensor_bytes("a") + file.tensor_bytes("b") == stream.nbytes
        assert abs(file.tensor_bytes("a") - file.tensor_bytes("b")) <= 1


NAMES = varints([6, 0, 0, 0, 0, 0, 0])
COUNT = 6


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"names": varints([10**6 + 1])}, r"1000001 tensors, expected at most 5\d\d\d within max_bytes and a file of"),
        ({"text": varints([5, 0, 0])}, "names needs 5 numbers, only 2 bytes"),
        ({"text": varints([2, 0, 0]) + b"a\0b"}, "ends within names"),
        ({"names": NAMES + b"a\0b\0c\0d\0e\0a\0"}, "two tensors are called 'a'"),
        ({"names": varints([6, 0, 2, 0, 0, 0, 0]) + b"a\0b\0c\0d\0e\0f\0"}, "shares 2 bytes with one of 1"),
        ({"names": NAMES + b"\xff\0b\0c\0d\0e\0f\0"}, "a name is not UTF-8"),
        ({"names": NAMES + b"a" * 4097 + b"\0b\0c\0d\0e\0f\0"}, "a name of 4097 bytes"),
        ({"shapes": varints([1 << 60])}, f"{1 << 60} signatures of 6 tensors, expected at most one each"),
        ({"text": varints([1, 0]) + b"a\0" + varints([1])}, "ends within kinds"),
        ({"shapes": varints([1]) + b"\xff\x2a\x0a\0" + bytes(COUNT)}, "kind 42 of dtype 10"),
        ({"shapes": varints([1]) + b"\xff\x07\x0a\0" + bytes(COUNT)}, "a kind below 8 takes more bytes"),
        ({"shapes": varints([1]) + b"\x1f\0" + bytes(COUNT)}, "kind 0 of dtype 31"),
        ({"shapes": varints([1]) + b"\x48\0" + bytes(COUNT)}, "a grid of dtype int64"),
        ({"shapes": varints([1]) + b"\x0a\x09" + bytes(COUNT + 9)}, "a shape of 9 dimensions"),
        ({"shapes": varints([1]) + b"\x0a\2" + varints([2**40, 2**40]) + bytes(COUNT + 4)}, "more than 2\\*\\*56"),
        (
            {"shapes": varints([1]) + b"\x0a\0" + bytes(4) + varints([0, 0, 0, 0, 0, 1])},
            "has signature 1, expected less",
        ),
        ({"ties": varints([6])}, "'head.weight' is tied to tensor 6 of 6"),
        ({"ties": varints([5])}, "itself tied"),
        ({"ties": varints([1])}, "or of another shape"),
        ({"streams": varints([2, 2, 2])}, "'norm.running_mean' shares a stream with tensors of another kind"),
        ({"streams": varints([2, 2, 1 << 50])}, "a tensor uses shared stream"),
        ({"streams": varints([0, 1, 0])}, r"'layer.bias' of shape \(8,\) has classes, expected codes"),
        ({"streams": varints([2, 2, 1])}, r"'norm.running_mean' of shape \(8,\) has a stream for each block, expected"),
        ({"scales": bytes([9, 9, 32, 32]), "behind": bytes(2 + 4 * 5 + 16)}, "is damaged"),
        ({"lengths": bytes(6)}, "the data end at byte"),
        ({"settings": varints([3]) + b"{x}"}, "the settings are no JSON"),
        ({"settings": varints([2]) + b"[]"}, "the settings are a JSON list, expected an object"),
        ({"settings": varints([200000]) + b"[" * 200000}, "the settings are no JSON"),
        ({"verdict": varints([99]) + b"{}"}, "ends within verdict"),
        ({"verdict": varints([2]) + b"{}!"}, "1 bytes follow the last column"),
        ({"behind": b""}, "ends within step sizes"),
        ({"behind": bytes(2)}, "more than 0 streams, for whose checksums"),
        ({"behind": bytes(2 + 24)}, "ends within the digest: 4 bytes left, 16 expected"),
        ({"behind": bytes(999)}, "bytes follow the digest"),
    ],
)
def test_forged_columns_are_refused(file, replaced, message):
    with pytest.raises(CorruptFile, match=message):
        read(forge(file, **replaced))


def test_zero_steps_and_edges_are_refused(file):
    behind = b"".join(part for _, part in tail(file.index))
    with pytest.raises(CorruptFile, match=r"tensor 'layer\.weight': a packed step of 0"):
        read(forge(file, scales=bytes([0, 0, 32, 32]), behind=bytes(2) + behind[2:]))
    with pytest.raises(CorruptFile, match="an edge of 0"):
        read(forge(file, scales=bytes([9, 9, 0, 32, 0, 1, 1, 0])))


@pytest.mark.parametrize(
    ("form", "message"),
    [
        (b"", "ends within edges of grids with a form"),
        (bytes([32, 4]), "a curve of number 4, expected one up to 3"),
        (bytes([32, 0]), r"a grid of shape \(8, 8\) has no use for its form"),
        (bytes([32, 1, 0, 0]), r"parameters \(0,\) of a log curve, expected 1 of 1 to 65279 each"),
        (bytes([32, 1, 255, 255]), r"parameters \(65535,\) of a log curve"),
        (bytes([32, 128]), "ends within channels"),
    ],
)
def test_forged_forms_are_refused(file, form, message):
    text = b"".join(columns_of(file)[what] for what in ("names", "shapes", "ties", "streams"))
    with pytest.raises(CorruptFile, match=message):
        read(forge(file, text=text + bytes([9, 9, 0, 32]) + form))


def test_rows_beyond_the_steps_of_a_file_are_refused(file):
    with pytest.raises(CorruptFile, match=r"tensor 'layer\.weight': packed steps of rows from 65072 to 67104"):
        read(forge(file, scales=bytes([254, 9, 0, 32, 32, 128]) + bytes(7) + b"\x7f"))


def test_a_bool_other_than_zero_and_one_is_refused():
    with File(pack({"a": Constant(b"\1", (1,), "bool")}, {}, None)) as file:
        forged = forge(file, shapes=varints([1]) + bytes([0, 1, 1, 7, 0]))
    with pytest.raises(CorruptFile, match="tensor 'a': a bool constant of value 7"):
        read(forged)
    with File(pack({"a": Raw(b"\1\2", (2,), "uint8")}, {}, None)) as file:
        forged = forge(file, shapes=varints([1]) + bytes([1 << 5, 1, 2, 0]))
    with pytest.raises(CorruptFile, match="tensor 'a': a bool tensor with bytes other than 0 and 1"):
        read(forged)


def test_codes_where_bytes_belong_are_refused():
    codes = np.arange(-600, 600, dtype=np.int32)
    with File(pack({"a": Grid(codes, 9, 9, (1200,), "float32")}, {}, None)) as file:
        forged = forge(
            file,
            shapes=varints([1]) + bytes([1 << 5 | 1, 1]) + varints([1200, 0]),
            scales=b"",
            behind=b"".join(part for _, part in tail(file.index))[1:],
        )
    with pytest.raises(CorruptFile, match="tensor 'a': a stream of bytes has symbols from -600 to 599"):
        read(forged)


def test_the_number_of_streams_is_limited_by_the_index():
    items = {str(i): Raw(bytes(range(16)), (1,), "complex128") for i in range(3)}
    with File(pack(items, {}, None)) as file:
        forged = forge(file, streams=varints([0, 0, 0]), lengths=b"", settings=b"", verdict=b"")
    with pytest.raises(CorruptFile, match="more than 20 streams, for whose checksums or description there is no room"):
        read(forged)


def index_of(count, signature=b"\x0a\0" + bytes(4), rest=b""):
    """A file without data whose index has ``count`` short names of one signature."""
    names = np.frombuffer(b"".join(b"%06d\0" % i for i in range(count)), np.uint8).tobytes()
    text = varints([count]) + bytes(count) + names + b"\1" + signature + bytes(count) + rest + bytes(2)
    return seal(HEADER, deflate(text) + bytes(16), len(text))


def test_what_an_index_may_describe_grows_with_max_bytes():
    small = index_of(66_000)
    assert len(small) < 400_000
    with pytest.raises(CorruptFile, match="66000 tensors, expected at most 65793 within max_bytes"):
        File(small, max_bytes=264_000)
    assert len(File(small).names) == 66_000
    with pytest.raises(CorruptFile, match="1000001 tensors, expected at most 1000000 within max_bytes"):
        File(seal(HEADER + bytes(1 << 17), deflate(varints([1_000_001])) + bytes(16), 3), max_bytes=1 << 40)


def test_what_an_index_may_describe_grows_with_the_file():
    """Each takes time, and names may deflate to nothing: 2 KB once took 11 seconds to load."""
    text = varints([20_000]) + bytes(20_000)
    small = seal(HEADER, deflate(text) + bytes(16), len(text))
    most = 4096 + 8 * len(small)
    with pytest.raises(CorruptFile, match=f"20000 tensors, expected at most {most} within max_bytes and a file of"):
        File(small, max_bytes=1 << 40)
    assert limits.described_items(1 << 40, 1 << 20) > 8_000_000


def test_factors_of_products_count_as_tensors():
    hostile = index_of(40_000, signature=bytes([4 << 5 | 10, 2, 1, 1, 0]))
    with pytest.raises(CorruptFile, match="40000 tensors and 80000 factors, more than 65793"):
        File(hostile, max_bytes=264_000)


def test_streams_without_room_for_checksums_are_not_listed():
    """16 streams for each tensor: a few kilobytes once took half a gigabyte of lists."""
    hostile = index_of(20_000, signature=bytes([1 << 5 | 19, 0]), rest=bytes(17 * 20_000))
    tracemalloc.start()
    with pytest.raises(CorruptFile, match="more than 4 streams, for whose checksums or description there is no room"):
        File(hostile)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_blocks_without_room_for_checksums_are_not_listed():
    blocks = (1 << 40) // (1 << 18)
    signature = bytes([1 << 5 | 1, 1]) + varints([1 << 40])
    hostile = index_of(1, signature, rest=bytes(2))
    with pytest.raises(CorruptFile, match=f"{blocks} blocks in 1 streams, expected at most 4"):
        File(hostile, max_bytes=1 << 50)


def test_pieces_without_room_for_checksums_are_not_listed():
    """Sixteen planes for each block: a list of them would take gigabytes."""
    streams = 16 * (1 << 40) // BLOCK
    signature = bytes([1 << 5 | 19, 1]) + varints([1 << 40])
    hostile = index_of(1, signature, rest=bytes([1, 0]))
    tracemalloc.start()
    with pytest.raises(CorruptFile, match=f"{streams} streams of tensor '000000', expected at most 4"):
        File(hostile, max_bytes=1 << 50)
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"null", "are a JSON NoneType, expected an object"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "nested deeper than 32 levels"),
        (b'{"a":' * 5000, "no JSON"),
        (b'{"a":NaN}', "no JSON: the number NaN is not finite"),
        (b'{"a":1e999}', "no JSON: the number 1e999 is not finite"),
        (b'{"a":' + b"9" * 41 + b"}", "an integer of 41 characters, expected at most 40"),
        (b'{"a":"\\ud800"}', "no JSON: 'utf-8' codec can't encode"),
        ('{"a":1}'.encode("utf-16"), "no JSON: 'utf-8' codec can't decode"),
        (b'{"a":"' + b"x" * (1 << 20) + b'"}', "take 1048584 bytes, expected at most 1048576"),
    ],
    ids=["null", "nested", "deep", "nan", "infinite", "digits", "surrogate", "utf-16", "long"],
)
def test_unusual_json_is_refused(file, text, message):
    with pytest.raises(CorruptFile, match=f"the verdict .*{message}"):
        read(forge(file, verdict=varints([len(text)]) + text))


def test_ordinary_json_is_kept(file):
    found = {"a": [1, -2.5, None, True, {"ä": "\U0001f600"}], "b": 10**39}
    text = json.dumps(found).encode()
    assert File(forge(file, settings=varints([len(text)]) + text)).settings == found


def test_lengths_of_the_index_are_checked(data, file):
    text = b"".join(part for _, part in columns(file.index))
    packed = deflate(text) + b"".join(part for _, part in tail(file.index))
    body = data[: len(data) - 12 - len(packed)]
    read(seal(body, packed, len(text)))
    for raw_length, message in [
        (len(text) - 1, "or more, expected exactly"),
        (len(text) + 1, "or more, expected exactly"),
        (limits.INDEX_BYTES + 1, "an index of 16777217 bytes, expected at most 16777216"),
    ]:
        with pytest.raises(CorruptFile, match=message):
            read(seal(body, packed, raw_length))
    with pytest.raises(CorruptFile, match="the index cannot be inflated"):
        read(seal(body, b"\xff" + packed[1:], len(text)))
    with pytest.raises(CorruptFile, match="an index of 4000000000 bytes in a file of"):
        read(seal(body, packed, len(text), 4_000_000_000))
    with pytest.raises(CorruptFile, match="the data end at byte"):
        read(seal(body + b"\0", packed, len(text)))


def test_a_bomb_is_not_inflated():
    with pytest.raises(CorruptFile, match="inflates to 101 bytes or more, expected exactly 100"):
        read(seal(HEADER, deflate(bytes(200_000_000)), 100))


def test_a_file_may_be_read_from_two_threads(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    rng = np.random.default_rng(0)
    items = {f"t{i}": Grid(rng.laplace(size=20000).astype(np.int32), 30000, 40, (20000,), "float32") for i in range(20)}
    (tmp_path / "a.nwt").write_bytes(pack(items, {}, None))
    with File(tmp_path / "a.nwt") as file, ThreadPoolExecutor(2) as pool:
        for name, found in zip(items, pool.map(file.representation, items), strict=True):
            assert found == items[name]


def test_metadata_are_the_texts_among_the_settings():
    for made, shown in [({"metadata": {"a": "ä", "b": 1}}, {"a": "ä"}), ({"metadata": "a"}, {}), ({"x": 1}, {})]:
        assert File(pack({}, made, None)).metadata == shown


def test_offsets_are_those_of_streams():
    rng = np.random.default_rng(0)
    factors = [Grid(rng.integers(-9, 9, 8, np.int32), 30000, 40, shape, "float32") for shape in ((8, 1), (1, 8))]
    items = {
        "product": Product(*factors, 0, (8, 8), "float32"),
        "large": Raw(rng.bytes(2000), (2000,), "uint8"),
        "tied": Tied("large", (2000,), "uint8"),
    }
    with File(pack(items, {}, None)) as file:
        assert file.offset("large") == file.offset("tied") == len(HEADER)
        assert file.offset("product") == len(HEADER) + 2000
