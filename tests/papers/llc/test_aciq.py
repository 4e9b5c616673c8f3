from __future__ import annotations

import pytest
import torch
from scipy import integrate, optimize, stats

from noworse.papers.llc.aciq import aciq_range, laplace, reach

BITS = (2, 3, 4, 6, 8)


def by_minimisation(density: object, bits: int) -> float:
    """The clip of least expected squared error: tails by numerical integration, the grid's noise by its formula."""

    def error(a: float) -> float:
        tail = integrate.quad(lambda x: (x - a) ** 2 * density(x), a, a + 40, limit=200)[0]  # type: ignore[operator]
        return 2 * tail + a * a / (3 * 4**bits)

    found = optimize.minimize_scalar(error, bounds=(0.1, 20), method="bounded", options={"xatol": 1e-7})
    return float(found.x)


@pytest.mark.parametrize("bits", BITS)
def test_constants_minimise_the_squared_error(bits: int) -> None:
    assert laplace(bits) == pytest.approx(by_minimisation(stats.laplace.pdf, bits), abs=2e-3)


def test_constants_are_those_of_the_literature() -> None:
    assert [round(laplace(b), 2) for b in BITS] == [2.83, 3.90, 5.03, 7.41, 9.90]
    assert [round(laplace(b, True), 2) for b in BITS] == [3.90, 5.03, 6.20, 8.65, 11.16]


@pytest.mark.parametrize("one_sided", [False, True])
def test_ranges_come_near_to_the_best_for_samples(one_sided: bool) -> None:
    torch.manual_seed(0)
    x = torch.distributions.Laplace(0.0, 3.0).sample((200_000,))
    x = x.clamp(min=0) if one_sided else x

    def error(low: float, high: float) -> float:
        step = (high - low) / 16
        return float((((x.clamp(low, high) / step).round() * step) - x).square().mean())

    best = min(error(-a * (not one_sided), a) for a in torch.linspace(2, 40, 100).tolist())
    assert error(*aciq_range(x, 4, min(0.0, float(x.min())), float(x.max()))) <= 1.05 * best


def test_rows_reach_no_further_than_their_largest_weight() -> None:
    rows = torch.tensor([[1.0, -1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 40.0]], dtype=torch.float64)
    assert reach(rows, 4).tolist() == pytest.approx([1.0, min(40.0, 10 * laplace(4))])
    assert reach(rows, 2).tolist() == pytest.approx([1.0, 10 * laplace(2)])
