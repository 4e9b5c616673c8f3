"""Moved weights and inputs against the same arithmetic by hand."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from noworse.sensitivity.shifted import ShiftedModel

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
