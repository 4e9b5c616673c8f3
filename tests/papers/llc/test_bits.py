from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, optimize, stats
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.model.quantized import Range
from noworse.papers.llc.bits import LEAST_CHANGE, STRATEGY, aciq_range, aciq_reach, gradient_sums, laplace, slope_cost
from noworse.propose.bits.proposals import propose
from noworse.propose.bits.sites import Site, survey_inputs
from tests.tiny import mlp

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
    assert aciq_reach(rows, 4).tolist() == pytest.approx([1.0, min(40.0, 10 * laplace(4))])
    assert aciq_reach(rows, 2).tolist() == pytest.approx([1.0, 10 * laplace(2)])


@pytest.fixture
def data() -> tuple[nn.Module, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return mlp(), torch.randn(50, 20, generator=generator), torch.randint(0, 4, (50,), generator=generator)


@pytest.mark.parametrize("keyword", [False, True])
def test_gradient_sums_are_derivatives_of_a_shift(data: tuple[nn.Module, Tensor, Tensor], keyword: bool) -> None:
    model, x, y = data[0].double(), data[1].double(), data[2]

    def run(moved: str = "") -> Tensor:
        h = x
        for name, layer in model.named_children():
            h = h + 1e-6 * (name == moved)
            h = layer(input=h) if keyword else layer(h)
        return F.cross_entropy(h, y, reduction="none")

    found = gradient_sums(model, ["0", "2"], run)
    for name in found:
        with torch.no_grad():
            expected = float(run(name).mean() - run().mean()) / 1e-6
        assert found[name] == pytest.approx(expected, rel=1e-3, abs=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("way", ["up", "down"])
def test_the_cost_is_that_of_algorithm_1(data: tuple[nn.Module, Tensor, Tensor], way: str) -> None:
    """Written out with numpy for one linear layer, from the formulas and the same random numbers."""
    model, x, y = data
    layer = model.get_submodule("0")

    def losses() -> Tensor:
        return F.cross_entropy(model(x), y, reduction="none")

    seen = survey_inputs(model, [lambda: model(x)])
    site = Site("0", "0.weight", ("0",), layer.weight)
    proposal = propose(site, (4,), None)[0]
    values = Range.covering(float(x.min()), float(x.max()), 4, way)
    found = slope_cost(model, site, proposal, values, seen.inputs["0"], losses)

    generator = torch.Generator().manual_seed(0)
    shifts = [(torch.rand(like.shape, generator=generator) < 0.5).numpy() for like in (x, layer.weight)]
    w, b, w2, b2 = (p.numpy().astype(float) for p in model.parameters())

    def loss(x: np.ndarray, w: np.ndarray) -> float:
        z = np.maximum(x @ w.T + b, 0) @ w2.T + b2
        return float(np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(50), y.numpy()]))

    h, step = x.numpy().astype(float), values.scale
    grid = step * np.clip((np.ceil if way == "up" else np.floor)(h / step), -values.zero, 15 - values.zero)
    moved = loss(h + step * (1 if way == "up" else -1) * shifts[0], w)
    expected = abs(moved - loss(h, w)) / step * np.sqrt(np.mean((grid - h) ** 2))
    assert proposal.written is not None
    size = float(proposal.written.steps.values().mean())
    change = abs(loss(h, w + size * shifts[1]) - loss(h, w))
    assert change > LEAST_CHANGE
    expected += change / size * np.sqrt(np.mean((proposal.decode().numpy() - w) ** 2))
    assert found == pytest.approx(expected, rel=2e-3)


def test_inputs_have_the_bits_of_their_weights(data: tuple[nn.Module, Tensor, Tensor]) -> None:
    site = Site("0", "0.weight", ("0",), data[0].get_parameter("0.weight"))  # type: ignore[arg-type]
    four, full = propose(site, (4,), None)
    assert STRATEGY.input_bits(8, four) == 4
    assert STRATEGY.input_bits(None, four) is None
    assert STRATEGY.input_bits(8, full) is None
    assert STRATEGY.input_bits(8, None) is None
