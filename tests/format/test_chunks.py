"""Bytes in streams of their own tables: what is coded, what stays as it is, and that all of it comes back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noworse.codec import BLOCK, _native
from noworse.format import File, pack
from noworse.format.chunks import decode_chunk, encode_bytes
from noworse.representation import Raw, find_dtype

WAYS = ("noise", "few", "one", "peaked")


def piece(way: str, size: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if way == "noise":
        return rng.integers(0, 256, size, np.uint8)
    if way == "few":
        return rng.integers(100, 103, size, np.uint8)
    return np.full(size, seed, np.uint8) if way == "one" else rng.geometric(0.1, size).astype(np.uint8)


def entropy_bytes(data: np.ndarray) -> float:
    """An ideal order-0 coder's, in float64."""
    counts = np.unique(data, return_counts=True)[1]
    return float((counts * np.log2(data.size / counts)).sum()) / 8


@settings(max_examples=60, deadline=None)
@given(
    ways=st.lists(st.sampled_from(WAYS), min_size=1, max_size=5),
    each=st.sampled_from([1, 700, 5000, 70_000]),
    rest=st.integers(1, 700),
    seed=st.integers(0, 255),
)
def test_streams_of_bytes_come_back_and_are_as_small_as_their_entropy(ways, each, rest, seed):
    data = np.concatenate([piece(way, each, seed) for way in ways])[: each * (len(ways) - 1) + min(rest, each)]
    chunks = list(encode_bytes(data, each))
    assert len(chunks) == len(ways)
    for i, chunk in enumerate(chunks):
        own = data[i * each : (i + 1) * each]
        found = decode_chunk(b"".join([chunk.table or b"", *chunk.blocks]), chunk.stream, True, [(own.size,)])
        assert found.tobytes() == own.tobytes()
        assert chunk.stream.nbytes <= own.size
        if own.size >= 5000:
            assert chunk.stream.nbytes < 1.02 * entropy_bytes(own) + 40
            assert (chunk.table is None) == (ways[i] == "noise")


def test_threads_and_instructions_leave_no_trace():
    data = np.concatenate([piece(way, 70_000, 3) for way in WAYS])
    found = [_native.encode_bytes(data, 70_000, threads, simd) for threads in (1, 3) for simd in (0, 1, 2)]
    assert all(other == found[0] for other in found)
    assert [stream is None for stream in found[0]] == [True, False, False, False]
    whole = [_native.encode_bytes(np.tile(data, 2), 1 << 40, threads) for threads in (1, 2)]
    assert whole[0] == whole[1]
    with pytest.raises(ValueError, match="streams have at least one symbol"):
        _native.encode_bytes(data, 0)


@pytest.mark.parametrize("dtype", ["uint8", "float8_e5m2", "bfloat16", "float32", "float64", "complex128"])
def test_bytes_that_differ_from_place_to_place_get_tables_of_their_own(dtype):
    width, count = find_dtype(dtype).itemsize, 2 * BLOCK + 1000
    rng = np.random.default_rng(0)
    data = rng.integers(0, 256, (count, width), np.uint8)
    data[:BLOCK] = rng.integers(0, 3, (BLOCK, width), np.uint8)
    data[-1000:] = 7
    item = Raw(data.tobytes(), (count,), dtype)
    with File(pack({"a": item, "b": item}, {}, None)) as file:
        assert file.representation("a") == item
        assert file.storage("b").tobytes() == data.tobytes()
        file.check()
        assert file.entry("a").stream == 1
        assert [len(stream.blocks) for stream in file.index.streams] == [1] * 6 * width
        assert file.tensor_bytes("a") == file.tensor_bytes("b")
        parts = [data[start : start + BLOCK, plane] for plane in range(width) for start in range(0, count, BLOCK)]
        assert file.tensor_bytes("a") < 1.02 * sum(map(entropy_bytes, parts)) + 40 * len(parts)
        assert file.offset("b") == file.offset("a") + file.tensor_bytes("a")


def test_a_tensor_of_one_block_has_one_stream_for_each_byte():
    item = Raw(bytes(4 * BLOCK), (BLOCK,), "uint32")
    with File(pack({"a": item}, {}, None)) as file:
        assert file.entry("a").stream == 0
        assert len(file.index.streams) == 4
