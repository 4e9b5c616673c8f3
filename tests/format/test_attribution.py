from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from noworse.format.attribution import apportion


@given(st.integers(0, 10**6), st.lists(st.floats(0, 1e6), min_size=1, max_size=50))
def test_parts_are_whole_and_sum_to_the_whole(whole, weights):
    parts = apportion(whole, weights)
    assert sum(parts) == whole
    total = sum(weights) or 1.0
    exact = [whole * weight / total for weight in weights] if any(weights) else [whole / len(weights)] * len(weights)
    assert all(abs(part - ideal) <= 1 + 1e-6 for part, ideal in zip(parts, exact, strict=True))


def test_nothing_to_go_by_means_equal_parts():
    assert apportion(7, [0, 0, 0]) == [3, 2, 2]
    assert apportion(0, []) == []


def test_many_parts_take_linear_time():
    """A hundred thousand tensors may share a stream: with a sum for each of them, this would take minutes."""
    assert sum(apportion(10**6, [1.0] * 100_000)) == 10**6
