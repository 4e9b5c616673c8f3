from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noworse.errors import BadInput
from noworse.representation import Grid, from_float32, pack_step, to_numpy, unpack_step
from noworse.representation.columns import MAX_STEP
from noworse.representation.grid import MAX_CODE

steps = st.integers(1, MAX_STEP)
edges = st.integers(1, 255)
some_codes = st.lists(st.integers(-MAX_CODE, MAX_CODE) | st.integers(-40, 40), min_size=1, max_size=30)


HALF = pack_step(0.5)


def grid(codes, step=HALF, edge=32, dtype="float32", shape=None):
    codes = np.asarray(codes, np.int32)
    return Grid(codes, step, edge, (codes.size,) if shape is None else shape, dtype)


def exact(code: int, step: int, edge: int) -> Fraction:
    """The formula in exact arithmetic."""
    if code == 0:
        return Fraction(0)
    magnitude = (Fraction(edge, 64) + abs(code) - Fraction(1, 2)) * Fraction(unpack_step(step))
    return magnitude if code > 0 else -magnitude


@given(some_codes, steps, edges)
def test_values_are_the_float32_nearest_to_the_exact_ones(codes, step, edge):
    for code, value in zip(codes, grid(codes, step, edge).decode(), strict=True):
        wanted = exact(code, step, edge)
        if abs(wanted) >= Fraction(2) ** 128 - Fraction(2) ** 103:  # rounds past the largest float32
            assert math.isinf(value)
            continue
        assert value.dtype == np.float32
        error = abs(Fraction(float(value)) - wanted)
        for neighbour in (np.nextafter(value, np.float32(np.inf)), np.nextafter(value, np.float32(-np.inf))):
            if np.isfinite(neighbour):
                assert error <= abs(Fraction(float(neighbour)) - wanted)


@given(st.lists(st.integers(-3000, 3000), min_size=1, max_size=30), steps, edges)
def test_the_table_of_values_and_the_direct_formula_agree(codes, step, edge):
    narrow = grid(codes, step, edge)
    wide = grid([*codes, MAX_CODE, -MAX_CODE], step, edge)  # too wide for a table
    np.testing.assert_array_equal(narrow.decode(), wide.decode()[:-2])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_dtypes_are_rounded_from_float32(dtype):
    codes = np.arange(-500, 500)
    single = grid(codes, pack_step(0.0123), 45).decode()
    other = grid(codes, pack_step(0.0123), 45, dtype)
    np.testing.assert_array_equal(other.decode(), to_numpy(from_float32(single, dtype), dtype))
    assert other.decode().dtype == {"float16": np.float16, "bfloat16": np.float32, "float64": np.float64}[dtype]


def test_zero_bin_of_half_a_step_is_a_plain_uniform_grid():
    np.testing.assert_array_equal(grid([-2, -1, 0, 1, 2], pack_step(0.5), 32).decode(), [-1.0, -0.5, 0, 0.5, 1.0])


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (0,), (3, 0, 2), (1, 2, 1, 2, 1)])
def test_shapes_are_kept(shape):
    codes = np.arange(math.prod(shape), dtype=np.int32)
    decoded = Grid(codes, 1000, 32, shape, "float32").decode()
    assert decoded.shape == shape
    assert decoded.size == codes.size


@given(st.floats(unpack_step(1), unpack_step(MAX_STEP)))
def test_pack_step_finds_the_nearest(step):
    packed = pack_step(step)
    assert 0 < packed <= MAX_STEP
    for other in (packed - 1, packed + 1):
        if 0 < other <= MAX_STEP:
            assert abs(Fraction(unpack_step(packed)) - Fraction(step)) <= abs(
                Fraction(unpack_step(other)) - Fraction(step)
            )


@given(steps)
def test_pack_inverts_unpack(step):
    assert pack_step(unpack_step(step)) == step


def test_steps_lie_within_a_fifth_of_a_percent():
    step = np.exp(np.linspace(-20, 5, 999))
    packed = np.array([unpack_step(pack_step(s)) for s in step])
    assert np.max(np.abs(packed / step - 1)) <= 2**-9


@pytest.mark.parametrize("step", [0.0, -1.0, math.nan, math.inf, 3.41e38])
def test_impossible_steps_are_refused(step):
    with pytest.raises(BadInput, match="a step size of"):
        pack_step(step)


def test_grids_compare_by_content():
    assert grid([1, 2]) == grid([1, 2])
    assert grid([1, 2]) != grid([1, 3])
    assert grid([1, 2]) != grid([1, 2], edge=33)
    assert grid([1, 2]) != "grid"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(3, np.int32), 1, 1, (2,), "float32"), r"codes are int32 of \(3,\), expected int32 of \(2,\)"),
        ((np.zeros(2, np.int64), 1, 1, (2,), "float32"), "codes are int64"),
        ((np.zeros((2, 1), np.int32), 1, 1, (2, 1), "float32"), r"codes are int32 of \(2, 1\)"),
        ((np.zeros(2, np.int32), 0, 1, (2,), "float32"), "a packed step of 0, expected 1 to 65279"),
        ((np.zeros(2, np.int32), 65280, 1, (2,), "float32"), "a packed step of 65280"),
        ((np.zeros(2, np.int32), 1, 0, (2,), "float32"), "an edge of 0, expected 1 to 255"),
        ((np.zeros(2, np.int32), 1, 256, (2,), "float32"), "an edge of 256"),
        ((np.zeros(2, np.int32), 1, 1, (2,), "int8"), "a grid of dtype int8, expected one of float16"),
        ((np.full(2, MAX_CODE + 1, np.int32), 1, 1, (2,), "float32"), r"codes reach beyond \+-2\*\*30"),
        ((np.full(2, -(2**31), np.int32), 1, 1, (2,), "float32"), r"codes reach beyond \+-2\*\*30"),
    ],
)
def test_unusable_grids_are_refused(arguments, message):
    with pytest.raises(BadInput, match=message):
        Grid(*arguments)
