from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from noworse.datafree.outliers import LARGEST_CODE
from noworse.propose.grids.compensated import signed_codes
from noworse.propose.grids.histogram import SORTED, Histogram
from noworse.rate.counter import code_bits

STEPS = (0.004, 0.03, 0.2, 1.0, 2.5)  # in standard deviations


def shaped(kind: str, count: int) -> Tensor:
    """Weights of several kinds of distributions, with a standard deviation of about one."""
    generator = torch.Generator().manual_seed(count)
    weights = torch.randn(count, generator=generator)
    if kind == "skewed":
        return weights.exp() - 1
    if kind == "heavy":
        return weights.sign() * weights.abs() ** 2.5
    if kind == "sparse":
        return weights * (torch.rand(count, generator=generator) < 0.1)
    return weights


@pytest.mark.parametrize("kind", ["normal", "skewed", "heavy", "sparse"])
@pytest.mark.parametrize("zone", [0.5, 0.6, 1.25])
def test_bits_are_those_of_the_codes(kind: str, zone: float) -> None:
    for count, close in ((7, 1e-6), (SORTED, 1e-6), (200_000, 5e-4), (2_000_000, 1e-4)):
        weights = shaped(kind, count)
        largest = float(weights.abs().max())
        histogram = Histogram(weights)
        for step in STEPS if count < 1_000_000 else STEPS[2:4]:
            step = max(step, largest / LARGEST_CODE)
            wanted = code_bits(signed_codes(weights.double(), step, zone))
            assert histogram.bits(step, zone) == pytest.approx(wanted, rel=close, abs=1e-6), (count, step)


def test_a_step_beyond_all_weights_leaves_nothing_to_tell() -> None:
    for count in (10, SORTED + 1):
        weights = torch.linspace(-1, 1, count)
        assert Histogram(weights).bits(1e30, 0.5) == 0
        assert Histogram(weights).bits(1.0, 0.4) > 0


def test_two_values() -> None:
    for count in (100, 4 * SORTED):
        weights = torch.ones(count)
        weights[: count // 4] = -1
        expected = count * (0.25 * 2 + 0.75 * math.log2(4 / 3))
        assert Histogram(weights).bits(0.01, 0.5) == pytest.approx(expected, rel=1e-6)
