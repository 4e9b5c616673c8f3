from __future__ import annotations

import functools

import torch
from torch import nn

from noworse.survey.kronecker import measure_curvature


def test_gradients_are_those_of_the_outputs_and_none_stay_with_the_weights() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3))
    model[2].weight.requires_grad_(False)
    x, u = torch.randn(20, 5), torch.randn(20, 3)
    layers = {"0": model[0]}
    found = measure_curvature(model, layers, [(functools.partial(model, x), 20)], lambda out: (u * out).sum())["0"]
    hidden = model[0](x)
    expected = (u @ model[2].weight.detach()) * (1 - torch.tanh(hidden).square())
    torch.testing.assert_close(found.gradients, (expected.T @ expected).double().detach(), rtol=1e-4, atol=1e-5)
    assert all(parameter.grad is None for parameter in model.parameters())
