from __future__ import annotations

import math

import pytest
import torch
from scipy import integrate, optimize, stats

from noworse.errors import BadInput
from noworse.propose.bits import clip

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
    assert clip.gaussian(bits) == pytest.approx(by_minimisation(stats.norm.pdf, bits), abs=2e-3)
    assert clip.laplace(bits) == pytest.approx(by_minimisation(stats.laplace.pdf, bits), abs=2e-3)


def test_constants_are_those_of_the_literature() -> None:
    assert [round(clip.gaussian(b), 2) for b in BITS] == [1.71, 2.15, 2.56, 3.29, 3.92]
    assert [round(clip.laplace(b), 2) for b in BITS] == [2.83, 3.90, 5.03, 7.41, 9.90]
    assert [round(clip.gaussian(b, True), 2) for b in BITS] == [2.15, 2.56, 2.94, 3.62, 4.22]
    assert [round(clip.laplace(b, True), 2) for b in BITS] == [3.90, 5.03, 6.20, 8.65, 11.16]


@pytest.mark.parametrize(("kind", "make"), [("gaussian", torch.randn), ("laplace", None)])
@pytest.mark.parametrize("one_sided", [False, True])
def test_ranges_come_near_to_the_best_for_samples(kind: str, make: object, one_sided: bool) -> None:
    torch.manual_seed(0)
    x = 3 * torch.randn(200_000) if make else torch.distributions.Laplace(0.0, 3.0).sample((200_000,))
    x = x.clamp(min=0) if one_sided else x

    def error(low: float, high: float) -> float:
        step = (high - low) / 16
        return float((((x.clamp(low, high) / step).round() * step) - x).square().mean())

    best = min(error(-a * (not one_sided), a) for a in torch.linspace(2, 40, 100).tolist())
    assert error(*clip.limits(x, 4, kind)) <= 1.05 * best


def test_mse_errs_least_and_max_covers_all() -> None:
    torch.manual_seed(0)
    x = torch.randn(5000)
    low, high = clip.limits(x, 4, "max")
    assert (low, high) == pytest.approx((float(x.min()), float(x.max())))

    def error(low: float, high: float) -> float:
        step = (high - low) / 15
        zero = round(-low / step)
        return float(((x / step).round().clamp(-zero, 15 - zero) * step - x).square().mean())

    narrow = clip.limits(x, 4, "mse")
    assert error(*narrow) <= min(error(*clip.limits(x, 4, kind)) for kind in ("max", "gaussian", "laplace"))


def test_constant_and_unbounded_values() -> None:
    assert clip.limits(torch.zeros(9), 8, "mse") == (0.0, 0.0)
    assert clip.limits(torch.full((9,), 2.5), 8, "max") == (0.0, 2.5)
    with pytest.raises(BadInput, match="finite"):
        clip.limits(torch.tensor([1.0, math.inf]), 8, "max")
    with pytest.raises(BadInput, match="unknown clipping"):
        clip.limits(torch.ones(3), 8, "best")
    with pytest.raises(BadInput, match="of weights"):
        clip.symmetric(torch.ones(3, 3), 4, "percentile")
