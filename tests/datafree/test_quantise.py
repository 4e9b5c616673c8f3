"""Codes are the nearest bins, bounds hold on what a reader decodes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noworse.datafree import quantise as q
from noworse.representation import from_float32, pack_step, to_numpy, unpack_step

DTYPES = ["float16", "bfloat16", "float32", "float64"]


def weights(dtype, n=5000, scale=0.05, seed=0):
    values = np.random.default_rng(seed).laplace(scale=scale, size=n)
    return values if dtype == "float64" else from_float32(values.astype(np.float32), dtype)


@given(st.floats(1e-3, 10), st.integers(1, 255), st.floats(-100, 100))
def test_codes_are_the_bins_of_the_specification(step, edge, value):
    """Zero up to r steps, the k-th bin from (r + k - 1) s to (r + k) s: away from the boundaries, by brute force."""
    r, packed = edge / 64, pack_step(step)
    t = abs(value) / unpack_step(packed)
    k = 0
    while t > r + k:
        k += 1
    if abs(t - r - round(t - r)) > 1e-9:
        assert q.quantise(np.array([value]), "float64", packed, edge).codes[0] == np.copysign(k, value)


@pytest.mark.parametrize("dtype", DTYPES)
def test_uniform_grids_are_off_by_half_a_step(dtype):
    stored = weights(dtype)
    step = pack_step(0.01)
    grid = q.quantise(stored, dtype, step, q.UNIFORM)
    error = np.abs(grid.decode().astype(np.float64) - to_numpy(stored, dtype))
    assert 0.0049 < error.max() <= unpack_step(step) / 2 + 0.5 * 2.0**-8  # bfloat16 has 8 bits of mantissa


@given(
    st.sampled_from(DTYPES),
    st.floats(-5, 1).map(lambda x: 10**x),
    st.floats(-3, 3).map(lambda x: 10**x),
    st.integers(0, 99),
)
def test_bounds_hold_exactly(dtype, bound, scale, seed):
    stored = weights(dtype, 300, scale, seed)
    numbers = np.abs(to_numpy(stored, dtype).astype(np.float64))
    grid = q.grid_within(stored, dtype, bound, np.inf, float(numbers.max()))
    bits = {"bfloat16": 8, "float16": 11}.get(dtype, 24)
    unit = float(numbers.max()) * 2.0**-bits  # most that rounding adds
    if grid is not None:
        error = np.abs(grid.decode().astype(np.float64) - to_numpy(stored, dtype).astype(np.float64))
        assert error.max() <= bound
        assert unpack_step(grid.step) > 1.5 * (bound - 2 * unit)
    else:
        assert bound < 1.2 * unit + 1e-7


def test_steps_stay_below_what_is_asked():
    stored = weights("float32")
    assert unpack_step(q.grid_within(stored, "float32", 1.0, 0.001, 1.0).step) <= 0.001
    assert q.grid_within(stored, "float32", 1e-40, np.inf, 1.0) is None


def test_errors_are_summed_over_all_elements():
    stored = weights("float32", 3 * q.AT_ONCE + 5)
    grid = q.quantise(stored, "float32", pack_step(0.02), 40)
    error, square = q.squared_error(stored, grid)
    assert error == pytest.approx(float(((grid.decode().astype(np.float64) - stored) ** 2).sum()))
    assert square == pytest.approx(float((stored.astype(np.float64) ** 2).sum()))


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_beyond_is_listed_and_changes_nothing_else(dtype):
    stored = weights(dtype, 3 * q.AT_ONCE + 5)
    plain = q.quantise(stored, dtype, pack_step(0.02), 40, 1.0)
    changed = stored.copy()
    changed[[7, q.AT_ONCE, -1]] = np.array([1e4, -2e4, 3e4]).astype(np.float32).astype(stored.dtype)
    if dtype == "bfloat16":
        changed[[7, q.AT_ONCE, -1]] = from_float32(np.array([1e4, -2e4, 3e4], np.float32), dtype)
    grid = q.quantise(changed, dtype, pack_step(0.02), 40, 1.0)
    assert grid.details == {"outliers": 3}
    found, expected = grid.storage(), plain.storage()
    expected[[7, q.AT_ONCE, -1]] = changed[[7, q.AT_ONCE, -1]]
    assert found.tobytes() == expected.tobytes()
    bound = q.grid_within(changed, dtype, 0.01, np.inf, 1.0)
    assert bound.details == {"outliers": 3}
    assert np.abs(to_numpy(bound.storage(), dtype).astype(float) - to_numpy(changed, dtype).astype(float)).max() <= 0.01
    error, square = q.squared_error(changed, grid)
    others = np.delete(to_numpy(changed, dtype).astype(float), [7, q.AT_ONCE, -1])
    assert square == pytest.approx(float(others @ others))
    assert 0 < error < 0.02**2 * others.size
