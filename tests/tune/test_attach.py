"""Parameters as views of one vector, and those that give way to their gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.rate.soft import Cosine
from noworse.tune import attach as memory
from noworse.tune.attach import attach, may_share
from tests.tiny import mlp
from tests.tune.test_tuner import grid_set


class Mixed(nn.Module):
    """A kernel, a tied pair, and a bias that no grid holds."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(2, 5, 3)
        self.left, self.right = nn.Linear(5, 5), nn.Linear(5, 5)
        self.right.weight = self.left.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.right(F.relu(self.left(self.conv(x).mean((2, 3)))))  # type: ignore[no-any-return]


NAMES = ["conv.weight", "conv.bias", "left.weight", "left.bias"]


def test_attached_parameters_are_views_of_one_vector() -> None:
    model = Mixed()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    grids = grid_set(model, NAMES)
    values, gradient = attach(model, grids)
    grids.log_step.fill_(math.log(1e-4))  # fine enough to see every weight
    grids.quantise(values)
    for name, parameter in model.named_parameters():
        assert torch.allclose(parameter, before[name], atol=3e-4), name
        assert parameter.requires_grad == (name in NAMES), name
    assert model.right.weight is model.left.weight
    assert model.conv.weight.is_contiguous(memory_format=torch.channels_last)
    model(torch.randn(3, 2, 5, 5)).square().sum().backward()
    assert {p.grad.untyped_storage().data_ptr() for p in model.parameters() if p.grad is not None} == {
        gradient.untyped_storage().data_ptr()
    }
    expected = torch.cat([s.flatten(model.get_parameter(s.name).grad) for s in grids.specs])
    assert torch.equal(gradient, expected)
    assert gradient.abs().min() >= 0
    assert gradient.abs().max() > 0


def test_two_parameters_on_one_storage_are_told_apart_by_shape() -> None:
    model = nn.Module()
    model.a = nn.Parameter(torch.randn(3, 4, generator=torch.Generator().manual_seed(0)))
    model.b = nn.Parameter(model.a.data.t())
    grids = grid_set(model, ["a", "b"])
    values, _ = attach(model, grids)
    grids.log_step.fill_(math.log(1e-4))
    grids.quantise(values)
    assert model.a.shape == (3, 4)
    assert model.b.shape == (4, 3)
    assert torch.allclose(model.b, model.a.t(), atol=1e-3)


def test_weights_give_way_to_their_gradients() -> None:
    pair = Mixed(), Mixed()
    pair[1].load_state_dict(pair[0].state_dict())
    given: set[int] = set()
    sets = [grid_set(model, NAMES) for model in pair]
    values, gradient = attach(pair[0], sets[0])
    shared, same = attach(pair[1], sets[1], given)
    assert same is shared
    x = torch.randn(3, 2, 5, 5)
    for model, grids, flat in zip(pair, sets, (values, shared), strict=True):
        grids.quantise(flat, Cosine())
        model(x).square().sum().backward()
    assert given == set(range(len(NAMES)))
    assert torch.equal(shared, gradient)
    assert all(parameter.grad is None for parameter in pair[1].parameters())
    for grids in sets:
        grids.log_step += 0.1  # what steps do after they were used does not matter
    sets[0].gradients(values, gradient, 0.1, True)
    sets[1].gradients(shared, shared, 0.1, True)
    for (_, a), (_, b) in zip(sets[0].leaves, sets[1].leaves, strict=True):
        assert torch.equal(a.grad, b.grad)


def test_tied_storages_keep_a_gradient_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SHARED", 0)
    model = mlp(20)
    assert may_share(model, grid_set(model, ["0.weight"]))
    model.append(nn.Linear(20, 20))
    model[3].weight.data = model[0].weight.data
    assert not may_share(model, grid_set(model, ["0.weight"]))
