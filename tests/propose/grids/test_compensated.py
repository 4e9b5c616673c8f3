from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from noworse.propose.grids.compensated import (
    DAMPING,
    SLACK,
    Layer,
    nearest,
    signed_codes,
    start_compensated,
)
from noworse.propose.grids.grid import GridSet, GridSpec
from noworse.propose.grids.start import start_at

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


def test_a_start_takes_the_bits_that_it_is_given() -> None:
    """Compensated weights need more bits at the same steps: the steps are chosen after that."""
    torch.manual_seed(2)
    specs = [GridSpec("layer", (30, 40), "float32"), GridSpec("other", (500,), "float32")]
    weights = {"layer": torch.randn(30, 40), "other": torch.randn(500)}
    grids, scratch = GridSet(specs, weights, ZONE), torch.empty(1700)
    sensitivity, bits = {"layer": 1.0, "other": 2.0}, 1.5 * 1700
    start_at(grids, sensitivity, bits, scratch)
    uncompensated = grids.steps()
    layers = {"layer": Layer((30, 40), correlated(40, 5)[None])}
    state = grids.state()
    _, found = start_compensated(grids, sensitivity, layers, bits, scratch, lambda: float(grids.bits.sum()), state)
    assert found == float(grids.bits.sum()) == pytest.approx(bits, rel=1.1 * SLACK)
    assert grids.steps()[0] > uncompensated[0]
    torch.testing.assert_close(grids.weights(1), weights["other"])  # no moments: not moved
