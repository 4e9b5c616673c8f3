"""The ratio of equal loss between the points of a ladder."""

from __future__ import annotations

import math

import pytest

from benchmarks.suites.paper import ratio_at


def test_between_two_points_it_is_linear_in_the_logarithm() -> None:
    assert ratio_at([(10, 0.001), (20, 0.003), (40, 0.01)], 0.002) == pytest.approx(10 * math.sqrt(2))
    assert ratio_at([(40, 0.01), (10, 0.001), (20, 0.003)], 0.003) == pytest.approx(20)


@pytest.mark.parametrize(("loss", "expected"), [(0.0005, 10), (0.02, 40), (0.01, 40)])
def test_outside_it_is_the_nearest_point(loss: float, expected: float) -> None:
    assert ratio_at([(10, 0.001), (20, 0.003), (40, 0.01)], loss) == expected


def test_where_a_curve_falls_again_the_largest_ratio_counts() -> None:
    assert ratio_at([(5, 0.0), (8, 0.002), (11, 0.001)], 0.0015) == 11
    assert 11 < ratio_at([(5, 0.0), (8, 0.002), (11, 0.001), (14, 0.004)], 0.0015) < 14
