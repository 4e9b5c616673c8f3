"""Moved weights and inputs against the same arithmetic by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from noworse.sensitivity.shifted import ShiftedModel, input_rounding, truncation, weight_rounding

W = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
X = torch.tensor([[1.0, -1.0], [0.5, 2.0]])


def loss(model: nn.Module, batch: Tensor) -> Tensor:
    return model(batch).sum(1)  # type: ignore[no-any-return]


def linear() -> ShiftedModel:
    layer = nn.Linear(2, 2, bias=False)
    layer.weight = nn.Parameter(W.clone())
    return ShiftedModel(nn.Sequential(layer), loss)


def test_everything_moves_as_far_as_asked() -> None:
    model, delta, error = linear(), torch.ones(2, 2), torch.full((2, 2), 0.5)
    losses, outputs = model.at(X, {"0.weight": [delta], "0": [error]}, 2.0)
    expected = (X + 2 * error) @ (W + 2 * delta).T
    torch.testing.assert_close(outputs, [expected])
    torch.testing.assert_close(losses, expected.sum(1))


def test_observed_are_places_and_replayed_are_outputs() -> None:
    model = linear()
    losses, outputs, seen = model.observe(X, ["0", "0.weight"], "the model")
    torch.testing.assert_close(seen, {"0": [X], "0.weight": [W]}, check_stride=False)
    torch.testing.assert_close(model.replay(X, [3 * outputs[0]]), 3 * losses)
    assert "forward" not in vars(model.model)


@pytest.mark.parametrize("bits", [2, 3, 8])
def test_rounded_weights_are_few_levels_of_each_row(bits: int) -> None:
    weights = torch.randn(5, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rounded = weights + weight_rounding(bits)(weights)
    step = weights.reshape(5, -1).abs().amax(1) / (2 ** (bits - 1) - 1)
    levels = rounded.reshape(5, -1) / step[:, None]
    assert torch.allclose(levels, levels.round(), atol=1e-9)
    assert bool((weight_rounding(bits)(weights).reshape(5, -1).abs() <= step[:, None] * (0.5 + 1e-9)).all())


@pytest.mark.parametrize("make", [weight_rounding, input_rounding])
def test_up_is_up_and_down_is_down(make: object) -> None:
    tensor = torch.rand(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) - 0.3
    assert bool((make(6, "up")(tensor) >= -0.05).all())  # type: ignore[operator]
    assert make(6, "up")(tensor).mean() > 0 > make(6, "down")(tensor).mean()  # type: ignore[operator]


@pytest.mark.parametrize("rounding", ["nearest", "up", "down"])
def test_zeros_after_relu_stay_zero_and_constants_are_kept(rounding: str) -> None:
    inputs = torch.relu(torch.randn(100, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    assert bool((input_rounding(4, rounding)(inputs)[inputs == 0] == 0).all())
    assert bool((input_rounding(4, rounding)(torch.zeros(7)) == 0).all())
    assert bool((weight_rounding(4, rounding)(torch.zeros(2, 3)) == 0).all())
    assert torch.allclose(input_rounding(4, "nearest")(torch.full((3,), 2.5)), torch.zeros(3), atol=1e-6)


def test_truncation_is_the_nearest_matrix_of_its_rank() -> None:
    weights = torch.randn(12, 3, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    error = truncation(0.5)(weights)
    kept = (weights + error).reshape(12, 12)
    assert torch.linalg.matrix_rank(kept) == 3  # half of 144 / 24
    values = torch.linalg.svdvals(weights.reshape(12, 12))
    assert error.norm() == pytest.approx(values[3:].norm().item())
