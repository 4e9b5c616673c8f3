from __future__ import annotations

import math

import pytest
import torch

from noworse.datafree.outliers import LARGEST_CODE
from noworse.propose.grids.grid import GridSet, GridSpec
from noworse.propose.grids.start import COARSEST, UNUSED, equal_slope_steps, start_at

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
    multiplier = start_at(grids, {**SENSITIVITY, "idle": 0.0}, 6.0 * grids.count, torch.empty(grids.count))
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
    multiplier = start_at(grids, SENSITIVITY, rate * grids.count, values)
    grids.quantise(values)
    assert float(grids.bits[grids.tuned].sum()) == pytest.approx(rate * grids.count, rel=0.02)
    assert torch.equal(grids.unit, grids.steps()), "latents are in units of the new steps"
    assert multiplier > 0


def test_fewer_bits_mean_a_steeper_slope(grids: GridSet) -> None:
    rates, values = (1.0, 2.0, 4.0, 8.0), torch.empty(grids.count)
    multipliers = [start_at(grids, SENSITIVITY, rate * grids.count, values) for rate in rates]
    assert multipliers == sorted(multipliers, reverse=True)


@pytest.mark.parametrize("rate", [1.0, 6.0])
def test_tensors_out_of_reach_keep_a_fixed_step(grids: GridSet, rate: float) -> None:
    start_at(grids, SENSITIVITY, rate * grids.count, torch.empty(grids.count))
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
    start_at(grids, {"w": 1.0}, 60 * 16.0, values)
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
        start_at(grids, sensitivity, 3.0 * grids.count, values)
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
    start_at(grids, {"near": 1e8, "far": 1e-8}, 4.0 * 10_000, values)
    grids.quantise(values)
    assert float(grids.bits.sum()) == pytest.approx(4.0 * 10_000, rel=0.01)
    assert grids.steps()[1].item() == pytest.approx(COARSEST, rel=0.05)
