from __future__ import annotations

import functools

import torch
from torch import nn

from noworse.model.recurrent import opened
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


def test_a_recurrent_weight_has_the_gradients_at_its_products_of_all_steps():
    torch.manual_seed(0)
    rnn, x, u = nn.GRU(3, 4), torch.randn(5, 6, 3), torch.randn(5, 6, 4)
    products = []
    hidden, total = torch.zeros(6, 4), torch.zeros(())
    for step, weights in zip(x, u, strict=True):
        a, b = step @ rnn.weight_ih_l0.T + rnn.bias_ih_l0, hidden @ rnn.weight_hh_l0.T + rnn.bias_hh_l0
        products.append((a, b, hidden))
        (r, z, n), (hr, hz, hn) = a.chunk(3, 1), b.chunk(3, 1)
        z = torch.sigmoid(z + hz)
        hidden = (1 - z) * torch.tanh(n + torch.sigmoid(r + hr) * hn) + z * hidden
        total = total + (weights * hidden).sum()
    with opened(rnn) as modules:
        layers = {name: modules[f"weight_{name}_l0"] for name in ("ih", "hh")}
        found = measure_curvature(rnn, layers, [(functools.partial(rnn, x), 6)], lambda out: (u * out[0]).sum())
    before = torch.cat([hidden for _, _, hidden in products])
    torch.testing.assert_close(found["hh"].inputs, (before.T @ before).double())
    for place, name in enumerate(("ih", "hh")):
        expected = torch.cat(torch.autograd.grad(total, [each[place] for each in products], retain_graph=True))
        torch.testing.assert_close(found[name].gradients, (expected.T @ expected).double(), rtol=1e-4, atol=1e-5)
