"""Codes, extents, errors and costs of native code against the same in numpy, whatever the number of threads."""

from __future__ import annotations

import numpy as np
import pytest

from noworse.codec import _native, fingerprint
from noworse.format.chunks import entropy

N = 3 * (1 << 16) + 5


def numbers(dtype: str, scale: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Elements as native code takes them, and as float64."""
    values = (np.random.default_rng(0).laplace(size=N) * scale).astype(np.float32)
    if dtype == "bfloat16":
        bits = (values.view(np.uint32) >> 16).astype(np.uint16)
        return bits, (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return values.astype(dtype), values.astype(np.float64)


def expected_codes(values: np.ndarray, step: float, r: float) -> np.ndarray:
    return np.copysign(np.maximum(np.ceil(np.abs(values) / step - r), 0), values).astype(np.int32)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
@pytest.mark.parametrize(("step", "r"), [(0.125, 0.5), (3.0, 0.9), (1e-7, 0.6)])
def test_codes_and_their_errors(dtype: str, step: float, r: float) -> None:
    stored, values = numbers(dtype)
    for threads in (1, 2):
        codes = np.empty(N, np.int32)
        assert _native.nearest(stored, step, r, 4.0, codes, threads) == (np.abs(values) > 4).sum() > 0
        assert (codes == expected_codes(np.where(np.abs(values) > 4, 0, values), step, r)).all()
    out = np.empty(N, np.float32)
    edge = round(64 * r)
    _native.grid_values(codes, step, edge, out)
    exact = np.sign(codes) * (np.abs(codes) + (edge / 64 - 0.5)) * step
    assert (out == exact.astype(np.float32)).all()
    assert _native.grid_fingerprint(codes, step, edge, 2) == fingerprint(out.view(np.uint8))
    error, square = ((out - values) ** 2).sum(), (values**2).sum()
    assert _native.grid_squares(stored, codes, step, edge) == pytest.approx((error, square), rel=1e-12)
    if dtype == "float32":
        assert _native.squares(stored, out) == pytest.approx((error, square), rel=1e-12)
        assert _native.squares(stored, out, 1) == _native.squares(stored, out, 2)
    by_one, by_two = (_native.grid_squares(stored, codes, step, edge, threads) for threads in (1, 2))
    assert by_one == by_two


def test_codes_that_no_file_can_hold_are_beyond_all_others() -> None:
    codes = np.empty(3, np.int32)
    _native.nearest(np.array([1e30, -1e30, 2.0]), 1.0, 0.5, np.inf, codes)
    assert codes.tolist() == [(1 << 30) + 1, -(1 << 30) - 1, 2]


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_extents(dtype: str) -> None:
    stored, values = numbers(dtype)
    near = values[np.abs(values) <= 2]
    square, *rest = _native.extent(stored, 2.0)
    assert square == pytest.approx((near**2).sum(), rel=1e-12)
    assert rest == [near.size, near.min(), near.max(), np.abs(near[near != 0]).min()]
    assert _native.extent(stored, 2.0, 1) == _native.extent(stored, 2.0, 2)


def test_extents_of_what_is_no_number() -> None:
    assert np.isnan(_native.extent(np.array([1.0, np.nan]), 9.0)[0])
    assert _native.extent(np.array([1.0, np.inf]), np.inf)[0] == np.inf
    assert _native.extent(np.array([1.0, np.inf]), 9.0) == (1.0, 1, 1.0, 1.0, 1.0)
    assert _native.extent(np.zeros(3), 1.0) == (0.0, 3, 0.0, 0.0, np.inf)


@pytest.mark.parametrize("size", [1, 700, 9000])
def test_costs_of_few_and_of_many_codes(size: int) -> None:
    sample = np.sort(np.random.default_rng(0).laplace(size=size))
    steps, rs = np.array([1e-4, 0.02, 0.1, 0.4, 3.0, 50.0]), np.array([0.5, 0.6, 0.84375])
    bits, errors = np.empty(18), np.empty(18)
    _native.costs(sample, steps, rs, bits, errors)
    for i, (step, r) in enumerate((s, r) for s in steps for r in rs):
        codes = expected_codes(sample, step, r)
        off = sample - np.sign(codes) * (r + np.abs(codes) - 0.5) * step
        assert errors[i] == pytest.approx((off**2).mean(), rel=1e-9)
        assert bits[i] == pytest.approx(entropy(np.unique(codes, return_counts=True)[1]), rel=1e-12, abs=1e-12)


def test_estimated_bytes_are_near_those_written() -> None:
    """Also where rows differ, so that they have classes."""
    from noworse.codec import encode

    rng = np.random.default_rng(0)
    codes = np.rint(rng.normal(size=(512, 400)) * rng.lognormal(size=(512, 1)) * 3).astype(np.int32)
    for columns in (0, 400):
        encoded = encode(codes.reshape(-1), columns)
        size = encoded.size + sum(encode(part).size + 7 for part in encoded.scales or ())
        assert _native.estimated_bytes(codes.reshape(-1), columns) == pytest.approx(size, rel=0.002)
        assert (encoded.scales is not None) == (columns > 0)
    assert _native.estimated_bytes(np.full(9, 7, np.int32), 3) == 0
    far = np.append(codes.reshape(-1)[:5000], [1 << 20, -(1 << 25)]).astype(np.int32)
    assert _native.estimated_bytes(far) == pytest.approx(encode(far).size, rel=0.01)


def test_sizes_have_to_fit() -> None:
    with pytest.raises(ValueError, match="sizes do not fit"):
        _native.nearest(np.zeros(3), 1.0, 0.5, np.inf, np.empty(2, np.int32))
    with pytest.raises(ValueError, match="no elements"):
        _native.costs(np.zeros(0), np.ones(1), np.ones(1), np.empty(1), np.empty(1))
