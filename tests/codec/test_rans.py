from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noworse.codec import BLOCK, Encoded, decode_into, encode, fingerprint
from noworse.errors import BadInput, CorruptFile
from noworse.representation import Grid, unpack_step
from tests.codec import reference_codec
from tests.codec.streams import FAR, as_coded, decode, decode_grid_into, laplacian, mutated

SIMD = (0, 1, 2, 3)  # portable, AVX2, AVX-512, its gathers


def dead_zone(n: int, scale: float, seed: int = 0) -> np.ndarray:
    x = np.random.default_rng(seed).standard_normal(n) * scale
    return (np.sign(x) * np.floor(np.abs(x) + 0.35)).astype(np.int32)


def entropy_bytes(codes: np.ndarray) -> float:
    """Empirical order-0 entropy of a whole stream."""
    _, counts = np.unique(codes, return_counts=True)
    return float(-(counts * np.log2(counts / len(codes))).sum() / 8)


def assert_round_trip(codes: np.ndarray) -> Encoded:
    coded = encode(codes)
    again = decode(coded.table, coded.blocks, len(codes))
    assert again.dtype == np.int32
    np.testing.assert_array_equal(again, codes)
    assert coded.size == len(coded.table) + sum(len(block) for block in coded.blocks)
    return coded


wild = st.lists(st.one_of(st.integers(-3, 3), st.integers(-300, 300), st.integers(-FAR, FAR)), max_size=300)
two = st.tuples(st.integers(-FAR, FAR), st.integers(-FAR, FAR), st.lists(st.booleans(), min_size=1, max_size=200))


@given(wild)
@settings(max_examples=150)
def test_any_integers_round_trip(values: list[int]) -> None:
    assert_round_trip(np.array(values, np.int32))


@given(two)
@settings(max_examples=60)
def test_two_values_round_trip(case: tuple[int, int, list[bool]]) -> None:
    a, b, choice = case
    assert_round_trip(np.where(np.array(choice), a, b).astype(np.int32))


@given(st.integers(1, 3000), st.floats(0.05, 1000), st.integers(0, 2**31), st.integers(0, 5))
@settings(max_examples=60)
def test_laplacian_with_outliers_round_trips(n: int, scale: float, seed: int, outliers: int) -> None:
    codes = laplacian(n, scale, seed)
    rng = np.random.default_rng(seed)
    codes[rng.integers(0, n, outliers)] = rng.integers(-FAR, FAR + 1, outliers)
    assert_round_trip(codes)


@pytest.mark.parametrize("n", [65535, 65536, 65537, 131071, 131072, 131103, 262143, BLOCK, BLOCK + 1, BLOCK + 65539])
@pytest.mark.parametrize("scale", [0.05, 1.0, 200.0])
def test_every_lane_count_round_trips(n: int, scale: float) -> None:
    assert len(assert_round_trip(laplacian(n, scale)).blocks) == -(-n // BLOCK)


@pytest.mark.parametrize("lone", [0, BLOCK - 1, BLOCK - 2049])
def test_a_block_that_holds_almost_nothing_round_trips(lone: int) -> None:
    codes = np.zeros(BLOCK, np.int32)
    codes[lone] = 7
    assert_round_trip(codes)


@pytest.mark.parametrize("value", [0, 1, -1, 1234, FAR, -FAR])
def test_constant_streams_need_no_payload(value: int) -> None:
    coded = assert_round_trip(np.full(BLOCK + 5, value, np.int32))
    assert coded.blocks == (b"", b"")
    assert len(coded.table) <= 9


def test_empty_stream_has_no_blocks() -> None:
    coded = assert_round_trip(np.zeros(0, np.int32))
    assert coded.blocks == ()


@pytest.mark.parametrize("make", [laplacian, dead_zone])
@pytest.mark.parametrize("scale", [0.2, 0.5, 1.0, 3.0, 20.0])
@pytest.mark.parametrize("n", [10_000, 65_536, BLOCK])
def test_size_is_within_one_percent_of_entropy(make, scale: float, n: int) -> None:  # type: ignore[no-untyped-def]
    codes = make(n, scale)
    assert encode(codes).size <= 1.01 * entropy_bytes(codes) + 16


@pytest.mark.parametrize("n", [64, 512, 4096])
@pytest.mark.parametrize("scale", [0.3, 0.6, 1.2])
def test_small_streams_cost_a_few_bytes_beyond_entropy(n: int, scale: float) -> None:
    """About what any two-part code pays for K - 1 unknown frequencies: log2(n) / 2 bits each (Rissanen 1978)."""
    streams = [dead_zone(n, scale, seed) for seed in range(10)]
    excess = [encode(codes).size - entropy_bytes(codes) for codes in streams]
    model = [(len(np.unique(codes)) - 1) * np.log2(n) / 16 for codes in streams]
    assert np.mean(excess) <= 5.5 + np.mean(model)


def test_outliers_are_escaped_instead_of_widening_the_alphabet() -> None:
    codes = laplacian(50_000, 1.0)
    plain = encode(codes).size
    codes[[5, 77, 40_000]] = [FAR, -FAR, 123_456]
    assert assert_round_trip(codes).size <= plain + 40


def test_uniform_wide_values_cost_little_more_than_themselves() -> None:
    codes = np.random.default_rng(0).integers(-FAR, FAR + 1, 10_000).astype(np.int32)
    assert assert_round_trip(codes).size <= 10_000 * 33.5 / 8


def test_same_codes_give_the_same_bytes_from_any_view() -> None:
    codes = laplacian(100_000, 1.5)
    strided = np.zeros((100_000, 2), np.int32)
    strided[:, 0] = codes
    read_only = codes.copy()
    read_only.flags.writeable = False
    assert encode(codes) == encode(strided[:, 0]) == encode(read_only)


def test_threads_decode_and_encode_alike() -> None:
    codes = [laplacian(200_000, 1.5, seed) for seed in range(4)]
    alone = [encode(c) for c in codes]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(encode, codes))
        decoded = list(pool.map(lambda i: decode(alone[i].table, alone[i].blocks, 200_000), range(4)))
    assert alone == together
    assert all(np.array_equal(a, b) for a, b in zip(codes, decoded, strict=True))


@pytest.mark.parametrize(
    "codes",
    [
        np.array([], np.int32),
        np.full(10, -5, np.int32),
        np.array([0, 0, 1, 0], np.int32),
        laplacian(700, 0.3),
        laplacian(5000, 40.0),
        np.append(laplacian(3000, 1.0), np.array([FAR, -FAR, 99, -(1 << 20)], np.int32)),
        np.append(laplacian(70_000, 1.0), np.array([FAR, -5000], np.int32)),
        laplacian(140_000, 0.05),
        laplacian(140_000, 0.3),
        laplacian(BLOCK + 3, 3.0),
    ],
    ids=[
        "empty",
        "constant",
        "two",
        "small",
        "wide",
        "escapes",
        "16 lanes, escapes",
        "sparse",
        "32 lanes",
        "two blocks",
    ],
)
def test_plain_python_reference_agrees(codes: np.ndarray) -> None:
    coded = encode(codes)
    assert reference_codec.read_stream(coded.table, list(coded.blocks), len(codes)) == codes.tolist()


@pytest.mark.parametrize(
    "codes", [np.zeros((2, 2), np.int32), np.zeros(3, np.int64), np.zeros(3, np.float32), np.array([FAR + 1], np.int32)]
)
def test_unusable_codes_are_refused(codes: np.ndarray) -> None:
    with pytest.raises(BadInput, match="codes"):
        encode(codes)


def test_blocks_must_fit_the_count() -> None:
    coded = encode(laplacian(1000, 1.0))
    for blocks, count in [((), 1000), (coded.blocks * 2, 1000), (coded.blocks, 0), (coded.blocks, BLOCK + 1)]:
        with pytest.raises(CorruptFile, match="blocks"):
            decode(coded.table, blocks, count)
    with pytest.raises(CorruptFile, match="constant"):
        decode(encode(np.zeros(4, np.int32)).table, [b"x"], 4)


@pytest.mark.parametrize("outlier", [0, FAR])
def test_several_lanes_notice_every_truncation_and_extension(outlier: int) -> None:
    codes = laplacian(66_000, 1.0)
    codes[7] = outlier
    coded = encode(codes)
    (block,) = coded.blocks
    for cut in [*range(0, 60), *range(60, len(block), 97)]:
        with pytest.raises(CorruptFile):
            decode(coded.table, [block[:cut]], 66_000)
    for extra in (b"\0", b"\0\0", b"\1", bytes(7)):
        with pytest.raises(CorruptFile):
            decode(coded.table, [block + extra], 66_000)
    for count in (65_999, 66_001):
        with pytest.raises(CorruptFile):
            decode(coded.table, [block], count)


def test_one_lane_never_returns_the_codes_of_a_truncated_block() -> None:
    """Its last state, zero, is so easily reached that only a checksum notices everything."""
    codes = laplacian(300, 1.0)
    coded = encode(codes)
    (block,) = coded.blocks
    for data in [block[:cut] for cut in range(len(block))] + [block + b"\0", block + b"\1\0"]:
        with suppress(CorruptFile):
            assert not np.array_equal(decode(coded.table, [data], 300), codes)


@pytest.mark.parametrize(
    ("codes", "rounds"),
    [
        (laplacian(40, 0.5), 3000),
        (laplacian(900, 2.0), 1500),
        (np.append(laplacian(900, 2.0), np.array([FAR, -FAR, 5000], np.int32)), 1500),
        (laplacian(66_000, 300.0), 150),
        (laplacian(BLOCK, 1.0), 60),
    ],
    ids=["tiny", "small", "escapes", "16 lanes", "32 lanes"],
)
def test_damaged_bytes_never_crash(codes: np.ndarray, rounds: int) -> None:
    coded = encode(codes)
    (block,) = coded.blocks
    rng = np.random.default_rng(7)
    for i in range(rounds):
        table = mutated(coded.table, rng) if i % 2 else coded.table
        payload = mutated(block, rng) if i % 3 else block
        try:
            out = decode(table, [payload], len(codes))
        except CorruptFile:
            continue
        assert out.shape == codes.shape
        assert out.min() >= -FAR
        assert out.max() <= FAR


def with_outliers(n: int, scale: float) -> np.ndarray:
    codes = laplacian(n, scale)
    codes[:: n // 7 + 1] = FAR - 5
    return codes


STREAMS = [
    laplacian(3000, 1.0),
    laplacian(70_003, 0.6),
    laplacian(140_000, 0.05),
    laplacian(BLOCK + 131_077, 2.0),
    with_outliers(150_001, 1.0),
    laplacian(140_000, 60.0),
    laplacian(140_000, 300.0),
    np.full(1000, -3, np.int32),
    with_outliers(2 * BLOCK + 5, 1.0),
    laplacian(2 * BLOCK, 300.0),
]
STREAM_NAMES = ["one lane", "16 lanes", "sparse", "two blocks", "escapes", "wide alphabet", "two gathers", "constant"]
STREAM_NAMES += ["pair of blocks", "wide pair"]


@pytest.mark.parametrize("codes", STREAMS, ids=STREAM_NAMES)
def test_portable_code_and_threads_give_the_same(codes: np.ndarray) -> None:
    ways = [(threads, simd) for threads in (1, 2, 5) for simd in SIMD]
    encoded = [encode(codes, 0, *way) for way in ways]
    assert all(other == encoded[0] for other in encoded)
    for way in ways:
        out = np.zeros(codes.size, np.int32)
        decode_into(as_coded(encoded[0]), out, *way)
        np.testing.assert_array_equal(out, codes)


@pytest.mark.parametrize("codes", STREAMS, ids=STREAM_NAMES)
@pytest.mark.parametrize("step", [0x7A40, 1, 0x0300, 0xFEFF])
@pytest.mark.parametrize("edge", [1, 32, 255])
def test_values_are_those_of_the_grid_bit_for_bit(codes: np.ndarray, step: int, edge: int) -> None:
    expected = Grid(codes, step, edge, codes.shape, "float32").storage()
    for simd in SIMD:
        out = np.full(codes.size, np.nan, np.float32)
        found = decode_grid_into(as_coded(encode(codes)), out, unpack_step(step), edge, simd=simd, digest=True)
        assert found == fingerprint(out.view(np.uint8))
        np.testing.assert_array_equal(out.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("dtype", [np.uint8, np.int8])
@pytest.mark.parametrize("n", [0, 1, 900, 70_000, BLOCK + 1])
def test_bytes_are_coded_like_wide_integers(dtype: type, n: int) -> None:
    codes = np.random.default_rng(0).normal(size=n, scale=9).astype(np.int8).view(dtype)
    encoded = encode(codes)
    assert encoded == encode(codes.astype(np.int32)) == encode(codes, simd=0)
    if dtype == np.uint8:
        for simd in SIMD:
            out = np.zeros(n, np.uint8)
            decode_into(as_coded(encoded), out, simd=simd)
            np.testing.assert_array_equal(out, codes)


@pytest.mark.parametrize("values", [[-1, 0, 1], [255, 256, 257], [0, 1, 5000]])
def test_what_is_no_byte_is_refused_where_bytes_are_expected(values: list[int]) -> None:
    codes = np.array(values * 40 + [values[1]] * 2000, np.int32)
    with pytest.raises(CorruptFile, match="a stream of bytes has"):
        decode_into(as_coded(encode(codes)), np.zeros(codes.size, np.uint8))


def test_a_wrong_checksum_names_its_block() -> None:
    coded = as_coded(encode(laplacian(3 * BLOCK, 1.0)))
    wrong = replace(coded, checksums=[coded.checksums[0], coded.checksums[1] ^ 1, coded.checksums[2] ^ 1])
    with pytest.raises(CorruptFile, match="block 1 of 3 is damaged: its crc32 is"):
        decode_into(wrong, np.zeros(3 * BLOCK, np.int32), 2)
    for broken, message in [
        (replace(coded, checksums=coded.checksums[:1]), "one checksum per block"),
        (replace(coded, data=coded.data[:-1]), "end early"),
        (replace(coded, data=coded.data + b"x"), "bytes follow"),
        (replace(coded, table=len(coded.data) + 1), "tables of"),
        (replace(coded, scales=(np.zeros(3, np.int32), np.zeros(BLOCK, np.int32))), "."),
    ]:
        with pytest.raises(CorruptFile, match=message):
            decode_into(broken, np.zeros(3 * BLOCK, np.int32))
