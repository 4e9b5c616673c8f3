"""Slopes and bounds of made-up gaps whose powers are known."""

from __future__ import annotations

import math

import pytest

from noworse.sensitivity.curves import Point, noise_curve, slope


def point(size: float, gap: float, scale: float = 1.0) -> Point:
    return Point("0", "weights", "noise", size, 2 * size, 0.0, 0.0, 0.0, 0.0, gap, gap * size, scale, scale)


def test_slopes_are_powers_and_gaps_of_rounding_are_left_out() -> None:
    found = noise_curve([point(size, 5 * size**2) for size in (1e-4, 1e-3, 1e-2)] + [point(1e-6, 1e-15)], 0.1, 1e-13)
    assert (found.slope_first, found.slope_second) == (pytest.approx(2), pytest.approx(3))
    assert math.isnan(slope([(1.0, 2.0)]))


def test_a_bound_is_the_last_size_before_the_first_failure() -> None:
    gaps = {1e-3: 0.05, 1e-2: 0.2, 1e-1: 0.01}  # the last one holds by luck
    found = noise_curve([point(size, gap) for size, gap in gaps.items()], 0.1, 0.0)
    assert (found.bound_first, found.bound_first_relative) == (1e-3, 2e-3)
    assert noise_curve([point(1e-3, 0.2)], 0.1, 0.0).bound_first is None
