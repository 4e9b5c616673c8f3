from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from noworse.datafree.outliers import LARGEST_CODE
from noworse.propose.grids.compensated import (
    COARSEST,
    DAMPING,
    UNUSED,
    Layer,
    equal_slope_steps,
    nearest,
    signed_codes,
    start_at,
)
from noworse.propose.grids.grid import GridSet, GridSpec

SHAPES = {"wide": (200, 100), "kernel": (64, 16, 3, 3), "bias": (200,), "idle": (60, 50)}
SENSITIVITY = {"wide": 3.0, "kernel": 0.2, "bias": 40.0, "idle": 0.0}


@pytest.fixture
def grids() -> GridSet:
    torch.manual_seed(0)
    specs = [GridSpec(name, shape, "float32", SENSITIVITY[name] > 0) for name, shape in SHAPES.items()]
    return GridSet(specs, {name: 0.3 * torch.randn(shape) for name, shape in SHAPES.items()}, 0.6)


def test_steps_of_equal_slope(grids: GridSet) -> None:
    """F·s² is the same in every tensor: so is the loss that a bit saves, ln 2 · F·s²/12 per weight."""
    steps = equal_slope_steps(grids, SENSITIVITY, 0.05).tolist()
    slopes = [SENSITIVITY[spec.name] * step**2 for spec, step in zip(grids.specs, steps, strict=True)]
    assert slopes[:3] == pytest.approx([0.05**2] * 3)


def test_the_slope_is_what_a_bit_saves_at_high_rate(grids: GridSet) -> None:
    """Measured: error energy and entropy at two steps near each other, on a tensor of many weights."""
    meter = grids.meter(torch.empty(grids.count))
    multiplier = start_at(grids, {**SENSITIVITY, "idle": 0.0}, 6.0 * grids.count, meter)
    wide = slice(0, grids.offsets[1])
    found = []
    for factor in (0.97, 1.03):
        values, base = torch.empty(grids.count), grids.log_step.clone()
        grids.log_step += math.log(factor)
        grids.quantise(values)
        error = (values - grids.latent * torch.repeat_interleave(grids.unit, torch.tensor(grids.sizes)))[wide]
        found.append((0.5 * SENSITIVITY["wide"] * float(error.double().square().sum()), float(grids.bits[0])))
        grids.log_step.copy_(base)
    (loss_a, bits_a), (loss_b, bits_b) = found
    per_bit = (loss_b - loss_a) / (bits_a - bits_b)
    tuned = sum(grids.sizes[:3]) / grids.count  # λ is per bit per weight of the whole set
    assert multiplier == pytest.approx(per_bit * grids.count * tuned, rel=0.1)


@pytest.mark.parametrize("rate", [1.0, 1.5, 2.5, 4.0, 6.0])
def test_the_bits_asked_for(grids: GridSet, rate: float) -> None:
    values = torch.empty(grids.count)
    multiplier = start_at(grids, SENSITIVITY, rate * grids.count, grids.meter(values))
    grids.quantise(values)
    assert float(grids.bits[grids.tuned].sum()) == pytest.approx(rate * grids.count, rel=0.02)
    assert torch.equal(grids.unit, grids.steps()), "latents are in units of the new steps"
    assert multiplier > 0


def test_fewer_bits_mean_a_steeper_slope(grids: GridSet) -> None:
    rates, values = (1.0, 2.0, 4.0, 8.0), torch.empty(grids.count)
    multipliers = [start_at(grids, SENSITIVITY, rate * grids.count, grids.meter(values)) for rate in rates]
    assert multipliers == sorted(multipliers, reverse=True)


@pytest.mark.parametrize("rate", [1.0, 6.0])
def test_tensors_out_of_reach_keep_a_fixed_step(grids: GridSet, rate: float) -> None:
    start_at(grids, SENSITIVITY, rate * grids.count, grids.meter(torch.empty(grids.count)))
    rms = 0.3
    assert grids.steps()[3].item() == pytest.approx(UNUSED * rms, rel=0.05)


def test_steps_stay_between_the_finest_and_the_coarsest(grids: GridSet) -> None:
    finest, coarsest = (equal_slope_steps(grids, SENSITIVITY, scale) for scale in (1e-9, 1e9))
    assert finest[:3].tolist() == pytest.approx([largest / LARGEST_CODE for largest in grids.largest[:3]])
    assert coarsest[:3].tolist() == pytest.approx([COARSEST * 0.3] * 3, rel=0.1)


def test_more_bits_than_entropy_can_show() -> None:
    """60 weights with codes of their own have 60·log2 60 bits, whatever the step: no reason for the finest one."""
    grids = GridSet([GridSpec("w", (60,), "float32")], {"w": torch.randn(60)}, 0.6)
    values = torch.empty(60)
    start_at(grids, {"w": 1.0}, 60 * 16.0, grids.meter(values))
    grids.quantise(values)
    assert 0.7 * 60 * math.log2(60) < float(grids.bits.sum()) < 60 * math.log2(60)
    assert grids.latent.abs().max() < 1000


@pytest.mark.parametrize("factor", [1e-24, 1e-12, 1.0, 1e12, 1e24])
def test_the_bits_asked_for_however_far_sensitivities_are_from_one(factor: float) -> None:
    """The unit of the loss changes no step: a net that knows its data by heart has sensitivities of almost nothing."""
    steps = []
    for scale in (1.0, factor):
        torch.manual_seed(0)
        specs = [GridSpec(name, shape, "float32") for name, shape in SHAPES.items()]
        grids = GridSet(specs, {name: 0.3 * torch.randn(shape) for name, shape in SHAPES.items()}, 0.6)
        values = torch.empty(grids.count)
        sensitivity = {name: scale * (value or 7.0) for name, value in SENSITIVITY.items()}
        start_at(grids, sensitivity, 3.0 * grids.count, grids.meter(values))
        grids.quantise(values)
        assert float(grids.bits.sum()) == pytest.approx(3.0 * grids.count, rel=0.001)
        steps.append(grids.steps())
    assert torch.allclose(*steps, rtol=0.01)


def test_sensitivities_far_apart() -> None:
    torch.manual_seed(0)
    specs = [GridSpec(name, (100, 100), "float32") for name in ("near", "far")]
    weights = {"near": torch.randn(100, 100), "far": torch.randn(100, 100)}
    grids = GridSet(specs, weights, 0.5)
    values = torch.empty(grids.count)
    start_at(grids, {"near": 1e8, "far": 1e-8}, 4.0 * 10_000, grids.meter(values))
    grids.quantise(values)
    assert float(grids.bits.sum()) == pytest.approx(4.0 * 10_000, rel=0.01)
    assert grids.steps()[1].item() == pytest.approx(COARSEST, rel=0.05)


STEP, ZONE = 0.3, 0.55


def correlated(size: int, seed: int) -> Tensor:
    """Second moments (size, size) of inputs that predict one another."""
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(4 * size, size, generator=generator, dtype=torch.float64)
    return (mixed := inputs @ torch.randn(size, size, generator=generator, dtype=torch.float64)).T @ mixed / len(inputs)


def by_least_squares(weights: Tensor, moments: Tensor, gone: Tensor | None = None) -> Tensor:
    """The same by definition: round the column of most energy, then set all later ones to the best that is left.

    Weights that are ``gone`` round to zero.
    """
    size = len(moments)
    damped = moments + DAMPING * moments.diagonal().mean() * torch.eye(size, dtype=moments.dtype)
    order = moments.diagonal().argsort(descending=True, stable=True).tolist()
    found, rounded = weights.clone(), weights.clone()
    for place, j in enumerate(order):
        rounded[:, j] = nearest(found[:, j], STEP, ZONE)
        rounded[:, j] *= 1 if gone is None else ~gone[:, j]
        done, rest = order[: place + 1], order[place + 1 :]
        if rest:  # minimise (e_done, e_rest) X (e_done, e_rest)ᵀ over e_rest
            error = rounded[:, done] - weights[:, done]
            solved = torch.linalg.solve(damped[rest][:, rest], damped[rest][:, done] @ error.T)
            found[:, rest] = weights[:, rest] - solved.T
    return found


@pytest.mark.parametrize("size", [1, 7, 70])
def test_every_column_makes_up_for_those_before_it(size: int) -> None:
    torch.manual_seed(size)
    weights, moments = torch.randn(5, size, dtype=torch.float64), correlated(size, size)
    found = Layer(weights.shape, moments[None]).compensated(weights, STEP, ZONE)
    torch.testing.assert_close(found.double(), by_least_squares(weights, moments), atol=1e-5, rtol=1e-5)


def test_outliers_have_no_error_and_others_make_up_for_none() -> None:
    torch.manual_seed(3)
    weights, moments = torch.randn(5, 70, dtype=torch.float64), correlated(70, 3)
    gone = torch.rand(5, 70) < 0.1
    weights[gone] = 0  # the rest on the grid of what a list holds
    found = Layer(weights.shape, moments[None]).compensated(weights, STEP, ZONE, gone=gone)
    torch.testing.assert_close(found.double(), by_least_squares(weights, moments, gone), atol=1e-5, rtol=1e-5)
    assert (nearest(found, STEP, ZONE)[gone] != 0).any(), "or it would be no matter"


def test_the_output_error_is_below_that_of_nearest_rounding() -> None:
    torch.manual_seed(0)
    weights, moments = torch.randn(20, 40, dtype=torch.float64), correlated(40, 3)

    def error(rounded: Tensor) -> float:
        return float(((rounded - weights) @ moments * (rounded - weights)).sum())

    found = Layer(weights.shape, moments[None]).compensated(weights, STEP, ZONE).double()
    assert error(nearest(found, STEP, ZONE)) < 0.5 * error(nearest(weights, STEP, ZONE))


def test_damping_keeps_weights_where_they_are() -> None:
    """Without bounds there is nothing left but nearest rounding; with less the error of outputs is less."""
    torch.manual_seed(6)
    weights, moments = torch.randn(8, 30), correlated(30, 9)
    kept = Layer(weights.shape, moments[None], 1e9).compensated(weights, STEP, ZONE)
    torch.testing.assert_close(kept, weights, atol=1e-5, rtol=0)
    moved, errors = [], []
    for damping in (0.01, 0.3, 10.0):
        found = Layer(weights.shape, moments[None], damping).compensated(weights, STEP, ZONE)
        change = (nearest(found, STEP, ZONE) - weights).double()
        moved.append(float((found - weights).norm()))
        errors.append(float((change @ moments * change).sum()))
    assert moved == sorted(moved, reverse=True)
    assert errors == sorted(errors)


def test_codes_have_the_signs_of_weights() -> None:
    codes = signed_codes(torch.tensor([0.4, -0.6, 1.6, -2.4]), 1.0, 0.5)
    assert codes.tolist() == [0, -1, 2, -2]


def test_curvature_that_is_left() -> None:
    """Independent inputs leave all errors as they are; of inputs that predict one another little is left."""
    energy = torch.tensor([1.0, 2.0, 4.0, 0.0], dtype=torch.float64)
    independent = Layer((2, 4), energy.diag()[None]).curvature()
    damped = energy[:3] + DAMPING * energy.mean()
    assert independent == pytest.approx(float(damped.log().mean().exp() / energy.mean()))
    moments = correlated(30, 8)
    damped = moments + DAMPING * moments.diagonal().mean() * torch.eye(30, dtype=torch.float64)
    volume = float(torch.logdet(damped) / 30)  # 1/U_jj² are the pivots of elimination
    expected = math.exp(volume) / float(moments.diagonal().mean())
    assert Layer((2, 30), moments[None]).curvature() == pytest.approx(expected)
    assert Layer((3, 5), torch.zeros(1, 5, 5)).curvature() == 1.0


def test_groups_are_layers_of_their_own() -> None:
    torch.manual_seed(1)
    weights = torch.randn(6, 3, 2, 2)
    moments = torch.stack([correlated(12, 1), correlated(12, 1)])
    whole = Layer(weights.shape, moments).compensated(weights, STEP, ZONE)
    for group in range(2):
        rows = slice(3 * group, 3 * group + 3)
        alone = Layer((3, 3, 2, 2), moments[:1]).compensated(weights[rows], STEP, ZONE)
        torch.testing.assert_close(whole[rows], alone)


def test_blocks_of_columns_are_layers_of_their_own() -> None:
    torch.manual_seed(1)
    weights = torch.randn(6, 4, 2, 2)  # two groups of three rows, two blocks of two channels
    moments = torch.stack([correlated(8, seed) for seed in (1, 2, 1, 2)])
    whole = Layer(weights.shape, moments).compensated(weights, STEP, ZONE)
    for group, block in ((0, 0), (0, 1), (1, 0), (1, 1)):
        part = slice(3 * group, 3 * group + 3), slice(2 * block, 2 * block + 2)
        alone = Layer((3, 2, 2, 2), moments[block : block + 1]).compensated(weights[part], STEP, ZONE)
        torch.testing.assert_close(whole[part], alone)


def test_weights_of_inputs_that_are_always_zero_become_zero() -> None:
    moments = correlated(5, 4)
    moments[2], moments[:, 2] = 0, 0
    found = Layer((3, 5), moments[None]).compensated(torch.ones(3, 5), STEP, ZONE)
    assert not found[:, 2].any()
    assert found[:, [0, 1, 3, 4]].all()


def test_an_idle_layer_is_zero_and_finite() -> None:
    assert not Layer((3, 5), torch.zeros(1, 5, 5)).compensated(torch.ones(3, 5), STEP, ZONE).any()
