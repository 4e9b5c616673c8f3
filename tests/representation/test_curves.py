"""Curves of grids: against exact or high-precision references, and the rows of a grid."""

from __future__ import annotations

import math
from decimal import Decimal, getcontext

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noworse.errors import BadInput
from noworse.representation import PLAIN, Form, Grid, pack_step, unpack_step
from noworse.representation.columns import MAX_STEP
from noworse.representation.curves import CURVES, logarithm
from noworse.representation.grid import MAX_CODE
from tests.format import reference_curve

ordinary = st.floats(2.0**-12, 4.0).map(pack_step)
SHAPES = {name: [pack_step(0.11 + 0.05 * i) for i in range(curve.parameters)] for name, curve in CURVES.items()}


def form(name, channels=b""):
    return Form(name, tuple(SHAPES[name]), channels)


@given(ordinary, st.integers(0, 400))
def test_log_and_exp_are_their_formulas_in_high_precision(h, k):
    getcontext().prec = 60
    exact_h, point = Decimal(unpack_step(h)), np.array([float(k)])
    grown = ((1 + exact_h) ** k - 1) / exact_h
    bent = (1 + exact_h * k).ln() / exact_h
    # the power's error grows with the number of its factors; the differences lose a few digits where h k is small
    assert Form("log", (h,)).points(point)[0] == pytest.approx(float(grown), rel=1e-9)
    assert Form("exp", (h,)).points(point)[0] == pytest.approx(float(bent), rel=1e-11)


@given(st.floats(1, 1e300))
def test_the_logarithm_is_one(x):
    assert logarithm(np.array([x]))[0] == pytest.approx(math.log(x), rel=1e-15, abs=1e-16)


@given(ordinary, ordinary, ordinary, st.integers(0, 60))
def test_multiscale_inverts_the_piecewise_linear_code(width, second, last, k):
    """The code of a weight: widths divided by slopes, segment after segment."""
    slopes = [1.0, *(unpack_step(x) for x in (second, second, last, last))]
    point = float(Form("multiscale", (width, second, second, last, last)).points(np.array([float(k)]))[0])
    left, code = point, 0.0
    for i, slope in enumerate(slopes):
        part = left if i == len(slopes) - 1 else min(left, unpack_step(width))
        code, left = code + part / slope, left - part
    assert code == pytest.approx(k, rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", CURVES)
def test_points_begin_at_zero_with_the_step_and_increase(name):
    points = form(name).points(np.arange(200.0))
    assert points[0] == 0
    assert (np.diff(points) > 0).all()
    if name != "multiscale":  # whose first segment ends before here
        assert points[1] == pytest.approx(1, rel=0.06)


@given(st.sampled_from(sorted(CURVES)), st.integers(0, MAX_CODE), st.lists(st.integers(1, MAX_STEP), min_size=5))
def test_the_second_reader_computes_the_same_bits(name, k, shape):
    shape = tuple(shape[: CURVES[name].parameters])
    with np.errstate(all="ignore"):
        found = Form(name, shape).points(np.array([float(k)]))[0]
    try:
        expected = reference_curve.curve(CURVES[name].code, [unpack_step(x) for x in shape], k)
    except OverflowError:
        expected = math.inf
    assert found == expected
    assert not math.isnan(found)


@pytest.mark.parametrize("name", CURVES)
def test_values_do_not_depend_on_the_table_or_the_pieces(name):
    codes = np.random.default_rng(0).integers(-90, 90, 70_000).astype(np.int32)
    codes[:2] = 0, -3
    many = Grid(codes, pack_step(0.01), 40, (700, 100), "float32", form(name)).decode()
    wide = Grid(np.append(codes[:9999], np.int32(MAX_CODE)), pack_step(0.01), 40, (10_000,), "float32", form(name))
    np.testing.assert_array_equal(many.reshape(-1)[:9999], wide.decode()[:-1])
    assert many[0, 0] == 0


def test_zero_has_no_sign_where_the_edge_is_small():
    values = Grid(np.zeros(3, np.int32), 30000, 1, (3,), "float32").decode()
    assert not np.signbit(values).any()


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("name", CURVES)
def test_every_row_is_a_grid_of_its_own_step(name, dtype):
    channels = np.array([-128, -3, 0, 7, 100], np.int8)
    codes = np.random.default_rng(1).integers(-9, 9, 60).astype(np.int32)
    step = pack_step(0.003)
    found = Grid(codes, step, 37, (5, 3, 4), dtype, form(name, channels.tobytes())).decode()
    for i, offset in enumerate(channels.tolist()):
        row = Grid(codes[12 * i : 12 * i + 12], step + 16 * offset, 37, (3, 4), dtype, form(name))
        np.testing.assert_array_equal(found[i], row.decode())


def test_a_hostile_curve_decodes_to_infinity_without_a_warning():
    values = Grid(np.array([5, -MAX_CODE], np.int32), MAX_STEP, 32, (2,), "float32", Form("log", (MAX_STEP,))).decode()
    assert np.isinf(values).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Form("spline"), "a curve 'spline', expected one of linear, log, exp, multiscale"),
        (lambda: Form("log"), r"parameters \(\) of a log curve, expected 1"),
        (lambda: Form("exp", (0,)), r"parameters \(0,\) of a exp curve"),
        (lambda: Form("linear", (5,)), r"parameters \(5,\) of a linear curve, expected 0"),
        (lambda: Form("multiscale", (1, 1, 1, 1, 65280)), "of a multiscale curve, expected 5 of 1 to 65279 each"),
    ],
)
def test_unusable_forms_are_refused(make, message):
    with pytest.raises(BadInput, match=message):
        make()


@pytest.mark.parametrize(
    ("channels", "shape", "step", "message"),
    [
        (b"\0\0", (3, 2), 100, r"2 channels of a grid of shape \(3, 2\), expected one per row"),
        (b"\0", (), 100, r"1 channels of a grid of shape \(\)"),
        (b"\0\xff\0", (3, 2), 16, "packed steps of rows from 0 to 16, expected 1 to 65279"),
        (b"\0\1\0", (3, 2), 65270, "packed steps of rows from 65270 to 65286"),
    ],
)
def test_unusable_channels_are_refused(channels, shape, step, message):
    with pytest.raises(BadInput, match=message):
        Grid(np.zeros(math.prod(shape), np.int32), step, 32, shape, "float32", Form(channels=channels))


def test_forms_distinguish_grids():
    codes = np.ones(4, np.int32)
    plain = Grid(codes, 100, 32, (2, 2), "float32")
    assert plain == Grid(codes, 100, 32, (2, 2), "float32", PLAIN)
    assert plain != Grid(codes, 100, 32, (2, 2), "float32", Form(channels=b"\1\0"))
