from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noworse.errors import BadInput
from noworse.format import File, pack
from noworse.representation import Form, Grid, Product, matrix_shape, pack_step, unpack_step
from noworse.representation.product import FLAT, SPATIAL
from tests.format.nwt_files import products


def grid(shape, seed=0, scale=3.0, step=0.01, dtype="float32"):
    codes = np.random.default_rng(seed).laplace(scale=scale, size=int(np.prod(shape))).astype(np.int32)
    return Grid(codes, pack_step(step), 40, shape, dtype)


def exact_points(factor):
    """Grid points in exact arithmetic."""
    step, edge = Fraction(unpack_step(factor.step)), Fraction(factor.edge, 64)
    points = [(1 if k > 0 else -1) * (edge + abs(k) - Fraction(1, 2)) * step if k else 0 for k in factor.codes.tolist()]
    return np.array(points, dtype=object).reshape(factor.shape)


@given(products().filter(lambda p: p.dtype in ("float32", "float64") and p.size < 500))
def test_elements_are_exact_sums_rounded_once_to_each_width(product):
    exact = exact_points(product.left) @ exact_points(product.right)
    with np.errstate(over="ignore"):
        wanted = np.array([float(x) for x in exact.reshape(-1)]).astype(np.float32).reshape(exact.shape)
    if product.split == SPATIAL:
        o, c, h, w = product.shape
        wanted = wanted.reshape(o, w, c, h).transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(product.decode(), wanted.reshape(product.shape))


@given(st.integers(0, 99))
def test_no_order_of_summation_changes_a_bit(seed):
    left, right = grid((40, 12), seed, 900.0), grid((12, 50), seed + 1, 900.0)
    order = np.random.default_rng(seed).permutation(12)
    turned = [
        Grid(np.ascontiguousarray(codes).reshape(-1), g.step, g.edge, g.shape, g.dtype)
        for g, codes in ((left, left.codes.reshape(40, 12)[:, order]), (right, right.codes.reshape(12, 50)[order]))
    ]
    plain = Product(left, right, FLAT, (40, 50), "float32").storage()
    np.testing.assert_array_equal(plain, Product(*turned, FLAT, (40, 50), "float32").storage())


def test_a_spatial_split_is_a_vertical_and_a_horizontal_kernel():
    left, right = grid((5 * 3, 2), 1), grid((2, 4 * 3), 2)
    product = Product(left, right, SPATIAL, (5, 4, 3, 3), "float32").decode()
    horizontal, vertical = left.decode().reshape(5, 3, 2), right.decode().reshape(2, 4, 3)
    np.testing.assert_allclose(product, np.einsum("oxr,rcy->ocyx", horizontal, vertical), atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "split", "left", "right", "message"),
    [
        ((6, 8), FLAT, (6, 2), (3, 8), r"expected \(6, r\) and \(r, 8\)"),
        ((6, 8), FLAT, (5, 2), (2, 8), r"expected \(6, r\) and \(r, 8\)"),
        ((6, 8), FLAT, (6, 4), (4, 8), "larger than its 6 x 8 elements"),
        ((6, 8), SPATIAL, (6, 2), (2, 8), "split 1 of four dimensions"),
        ((48,), FLAT, (6, 2), (2, 8), "expected a matrix"),
        ((6, 8), 2, (6, 2), (2, 8), "split 2"),
    ],
)
def test_factors_that_do_not_fit_are_refused(shape, split, left, right, message):
    with pytest.raises(BadInput, match=message):
        Product(grid(left), grid(right), split, shape, "float32")


def test_factors_of_another_dtype_are_refused():
    with pytest.raises(BadInput, match="factors of float16"):
        Product(grid((6, 2), dtype="float16"), grid((2, 8)), FLAT, (6, 8), "float32")


def test_factors_with_a_form_are_refused():
    curved = replace(grid((6, 2)), form=Form("exp", (0x7812,)))
    with pytest.raises(BadInput, match="a factor of a product has a form"):
        Product(curved, grid((2, 8)), FLAT, (6, 8), "float32")


def test_sums_beyond_2_to_the_53_are_formed_in_order():
    codes = [np.random.default_rng(k).integers(-(1 << 30), 1 << 30, 30, np.int32) for k in range(2)]
    left, right = Grid(codes[0], 30000, 32, (10, 3), "float32"), Grid(codes[1], 30001, 33, (3, 10), "float32")
    found = Product(left, right, FLAT, (10, 10), "float32").decode()
    unit = unpack_step(30000) * unpack_step(30001) / 4096
    points = [np.sign(g.codes) * (g.edge + 64 * np.abs(g.codes.astype(np.int64)) - 32) for g in (left, right)]
    for i in range(10):
        for j in range(10):
            total = 0.0
            for k in range(3):
                total += float(points[0][3 * i + k]) * float(points[1][10 * k + j])
            assert found[i, j] == np.float32(total * unit)


def test_matrix_shapes():
    assert matrix_shape((6, 4, 3, 5), FLAT) == (6, 60)
    assert matrix_shape((6, 4, 3, 5), SPATIAL) == (30, 12)


@given(products(), st.sampled_from(["fast", "max"]))
def test_a_file_holds_the_factors(product, coder):
    with File(pack({"w": product}, {}, None, coder)) as file:
        assert file.names == ["w"]
        assert file.representation("w") == product
        assert 0 <= file.tensor_bytes("w") < file.size
        file.check()
