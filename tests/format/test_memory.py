"""Decoding takes memory in proportion to what is decoded, whatever a file holds."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from noworse.format import File, pack, writer
from noworse.representation import Constant, Grid, Raw

SIZE = 8 << 20  # bytes decoded


def grid(dtype, far):
    """Nearly all zeros; ``far`` is the only other code."""
    codes = np.zeros(SIZE // np.dtype("float16" if dtype == "bfloat16" else dtype).itemsize, np.int32)
    codes[::100_000] = far
    return Grid(codes, 30000, 40, codes.shape, dtype)


CASES = {
    "constant": lambda: Constant(b"\1", (SIZE,), "uint8"),
    "complex": lambda: Raw(bytes(SIZE), (SIZE // 16,), "complex128"),
    "half": lambda: Raw(bytes(SIZE), (SIZE // 2,), "float16"),
    "zeros": lambda: grid("bfloat16", 0),
    "near codes": lambda: grid("bfloat16", 5),
    "a table of all codes": lambda: grid("bfloat16", 500_000),
    "far codes": lambda: grid("bfloat16", 1 << 30),
    "double": lambda: grid("float64", 1 << 30),
}


def peak(data):
    """Most bytes that arrays and objects take while a file is read."""
    tracemalloc.start()
    with File(data) as file:
        file.check()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found


@pytest.mark.parametrize("case", CASES)
def test_a_file_of_a_few_hundred_bytes_takes_a_few_times_its_decoded_size(case):
    data = pack({"a": CASES[case]()}, {}, None)
    assert len(data) < 2000
    assert peak(data) <= 4 * SIZE + (4 << 20)


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_so_does_a_context_coded_grid(monkeypatch, dtype):
    monkeypatch.setattr(writer, "WORTH", -1)  # it is context-coded even where classes are as small
    rows = SIZE // np.dtype("float16" if dtype == "bfloat16" else dtype).itemsize // 1024
    codes = (np.random.default_rng(0).random((rows, 1024), np.float32) < np.linspace(0, 0.02, 1024)).astype(np.int32)
    data = pack({"a": Grid(codes.reshape(-1), 30000, 40, codes.shape, dtype)}, {}, None, "max")
    with File(data) as file:
        assert file.index.streams[0].in_context
    assert peak(data) <= 4 * SIZE + (4 << 20)


@pytest.mark.parametrize("shape", [(SIZE // 4, 2), (2, SIZE // 4)])
def test_so_does_a_matrix_of_nearly_as_many_scales_as_elements(shape):
    """Scales are kept as wider integers than float16 elements."""
    rng = np.random.default_rng(0)
    loud = (rng.random(max(shape)) < 0.5)[(slice(None), None) if shape[1] == 2 else (None, slice(None))]
    codes = ((8 * rng.integers(0, 2, shape, np.int32) - 4) * loud).reshape(-1)
    data = pack({"a": Grid(codes, 30000, 40, shape, "float16")}, {}, None)
    with File(data) as file:
        assert file.attribution()["classes"] > 0
    assert peak(data) <= 4 * SIZE + len(data) + (4 << 20)


def test_many_small_tensors_are_decoded_a_few_at_a_time(monkeypatch):
    """80,000 grids of one element each once took 334 MB, and 320,000 half a minute."""
    monkeypatch.setattr(writer, "SMALL_CODES", 0)  # streams of their own
    rng = np.random.default_rng(0)
    items = {str(number): Grid(rng.integers(-9, 9, 1, np.int32), 30000, 40, (1,), "float32") for number in range(6000)}
    with File(pack(items, {}, None)) as file:
        assert len(file.index.streams) == 6000
        tracemalloc.start()
        file.check()
        assert tracemalloc.get_traced_memory()[1] < 12 << 20
        tracemalloc.stop()
