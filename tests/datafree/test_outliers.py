"""What is called an outlier: what is worth more bits to all others than its list costs, and nothing that tails have."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noworse.datafree.outliers import FINE, LARGEST_CODE, MOST, largest_of_others, may_have_outliers

RNG = np.random.default_rng


def find(values, width=32, pieces=1):
    whole = np.asarray(values, np.float64).reshape(-1)
    return largest_of_others(np.array_split(whole, pieces), whole.size, width)


def count(values, **options):
    return int((np.abs(values) > find(values, **options)).sum())


def by_definition(values, most, width=32):
    """The number of outliers, from docs/method.md, one k at a time."""
    x = sorted(map(abs, values.tolist()), reverse=True)
    n = len(x)
    steps = [max(x[k] / LARGEST_CODE, (sum(v * v for v in x[k:]) / (n - k)) ** 0.5 / FINE) for k in range(most + 1)]
    finer = [np.log2(steps[0] / s) for s in steps]
    bits = [own + (width if own >= 6 else 0) for own in finer]
    worth = [(n - k) * bits[k] - k * (np.log2(n) + width) for k in range(most + 1)]
    best = int(np.argmax(worth))
    return best if steps[0] >= 2 * steps[best] else 0


@given(st.integers(0, 999), st.integers(3, 600), st.integers(0, 4), st.floats(0, 6), st.integers(1, 9))
def test_against_the_definition(seed, size, far, decades, pieces):
    values = RNG(seed).standard_t(4, size)
    values[: min(far, size - 1)] *= 10**decades
    most = 2 + math.isqrt(size) // 4
    assert count(values, pieces=pieces) == by_definition(values, min(most, size - 1))


@pytest.mark.parametrize("draw", ["normal", "laplace", "standard_t", "lognormal", "uniform"])
@pytest.mark.parametrize("size", [3, 8, 64, 1000, 100_000])
def test_tails_have_none(draw, size):
    """Student's t of five degrees of freedom, and a lognormal like running variances, are heavier than weights are."""
    for seed in range(3):
        extra = {"standard_t": {"df": 5}}.get(draw, {})
        assert count(getattr(RNG(seed), draw)(size=size, **extra)) == 0


@pytest.mark.parametrize("width", [16, 32, 64])
@pytest.mark.parametrize(
    ("size", "far"), [(2, 1), (3, 1), (8, 2), (10, 1), (64, 4), (2304, 1), (2304, 10), (100_000, 70)]
)
def test_extreme_elements_are_found_alone(size, far, width):
    values = RNG(0).normal(size=size)
    values[RNG(1).choice(size, far, replace=False)] = 1e4 * (1 + RNG(2).random(far)) * RNG(3).choice([-1, 1], far)
    assert count(values, width=width) == far
    assert find(values) == np.abs(values[np.abs(values) < 1e3]).max()


def test_a_few_are_few():
    """Half of a tensor, a mask's, a live channel among dead ones, or more than a file lists, are no outliers."""
    assert count(np.tile([0.1, -1e9], 500) * RNG(0).uniform(1, 2, 1000)) == 0
    assert count(np.concatenate([RNG(0).normal(size=900) * 1e-9, RNG(1).normal(size=100)])) == 0
    many = RNG(0).normal(size=1_000_000)
    many[: MOST + 1] = 1e6 * RNG(1).uniform(1, 2, MOST + 1)
    assert count(many) <= MOST


def test_elements_of_one_magnitude_are_listed_together_or_not_at_all():
    values = RNG(0).normal(size=100)
    values[:2] = 1e5
    assert count(values) == 2
    values[:50] = 1e5
    assert count(values) == 0


def test_something_is_left_for_the_grid():
    for values in ([1e9, 0, 0, 0, 0, 0, 0, 0], [1e9, 1], [1e9], [], [3.0, 3.0, 3.0]):
        assert count(np.array(values)) < max(len(values), 1)
    assert count(np.array([1e9, 0.0, 0.0, 0.0])) == 0


def test_squares_beyond_every_float_are_no_trouble():
    values = RNG(0).normal(size=50)
    values[7] = 1e300
    assert count(values, width=64) == 1


@pytest.mark.parametrize("bad", [np.inf, -np.inf])
def test_infinite_elements_are_none(bad):
    values = RNG(0).normal(size=50)
    values[7] = bad
    assert find(values) == np.inf


@pytest.mark.parametrize("size", [2, 9, 300, 20_000])
def test_the_short_way_never_misses_one(size):
    """It is short where it can be, too."""
    said = []
    for seed in range(60):
        values = RNG(seed).normal(size=size)
        values[: 1 + seed % 3] *= 2.0 ** (seed / 4)
        said.append(may_have_outliers(size, float(np.abs(values).max()), float((values**2).mean())))
        assert said[-1] or count(values) == 0
    assert not all(said) or size < 10
    assert may_have_outliers(size, np.inf, np.inf)
    assert may_have_outliers(size, 1e200, np.inf)
