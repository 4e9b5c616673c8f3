"""How tensors are written bit for bit."""

from __future__ import annotations

from time import perf_counter

import numpy as np
import pytest

from noworse.checkpoint.storage import lossless
from noworse.format import packed_size
from noworse.representation import Codebook, Constant, Raw


def palettized(shape, count, dtype, seed=0):
    """What k-means leaves of Gaussian weights, with values of its own for every tensor."""
    rng = np.random.default_rng(seed)
    known = np.sort(rng.normal(size=count)).astype(np.float32)
    weights = rng.normal(size=shape).astype(np.float32)
    near = known[np.abs(weights[..., None] - known).argmin(-1)]
    return (near.view(np.uint32) >> 16).astype(np.uint16) if dtype == "bfloat16" else near.astype(dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("count", [2, 16, 256])
def test_few_values_become_a_codebook_that_is_smaller(dtype, count):
    stored = palettized((64, 120), count, dtype)
    found = lossless(stored, dtype)
    assert isinstance(found, Codebook)
    assert found.storage().tobytes() == stored.tobytes()
    raw = Raw(stored.tobytes(), stored.shape, dtype)
    assert packed_size({"a": found}, {}, None) < packed_size({"a": raw}, {}, None)


@pytest.mark.parametrize(
    ("stored", "kind"),
    [
        (np.random.default_rng(0).normal(size=100).astype(np.float32), Raw),  # few values, but as many as elements
        (np.random.default_rng(0).normal(size=5000).astype(np.float32), Raw),
        (np.tile(np.random.default_rng(0).normal(size=100).astype(np.float32), 2)[:120], Raw),  # a few of them twice
        (np.arange(5000) % 3, Raw),  # integers
        (np.zeros((0, 3), np.float32), Raw),
        (np.full(9, np.nan, np.float32), Constant),
    ],
)
def test_other_tensors_do_not(stored, kind):
    found = lossless(stored, stored.dtype.name)
    assert isinstance(found, kind)
    assert found.storage().tobytes() == stored.tobytes()


@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
def test_a_codebook_is_taken_only_where_it_is_smaller(dtype):
    """Which sizes tell of whole files, but where they are nearly the same: it is an estimate."""
    taken = []
    for size in (60, 100, 200, 400, 800):
        for count in (20, 50, 150, 220):
            stored = palettized((size,), count, dtype, size)
            raw = Raw(stored.tobytes(), stored.shape, dtype)
            mine, other = (packed_size({"": item}, {}, None) for item in (Codebook.from_values(stored, dtype), raw))
            if abs(mine - other) > 40:
                taken.append(isinstance(lossless(stored, dtype), Codebook))
                assert taken[-1] == (mine < other)
    assert len(taken) >= 8


def test_tensors_of_many_values_take_no_time():
    stored = np.random.default_rng(0).normal(size=1 << 22).astype(np.float32)
    start = perf_counter()
    lossless(stored, "float32")
    looked = perf_counter() - start
    start = perf_counter()
    packed_size({"": Raw(stored.tobytes(), stored.shape, "float32")}, {}, None)
    assert looked < 0.1 * (perf_counter() - start)
