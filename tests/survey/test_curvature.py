from __future__ import annotations

import functools

import pytest
import torch
from torch import nn

from noworse.model.recurrent import opened
from noworse.survey.curvature import measure_curvature, tensor_sensitivity
from noworse.task.distances import KL, distance_of


@pytest.mark.parametrize(
    ("kind", "temperature"), [("kl", 1.0), ("kl", 0.3), ("mse", 1.0), ("cosine", 1.0), ("kl:3+mse:2", 1.0)]
)
def test_predicts_the_loss_of_small_noise(kind: str, temperature: float) -> None:
    """½ Σ F ε² is the mean distillation loss of random errors: the definition, measured."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 5)).double()
    x = torch.randn(400, 6, dtype=torch.float64)
    with torch.no_grad():
        original = model(x)
    distance = distance_of(kind, original, temperature)
    parameters = dict(model.named_parameters())
    batches = ((model(part), len(part)) for _ in range(25) for part in x.split(8))
    found = tensor_sensitivity(parameters, batches, distance, seed=0)
    with torch.no_grad():
        for name, parameter in parameters.items():
            kept, losses = parameter.clone(), []
            for _ in range(300):
                parameter.copy_(kept + 1e-3 * torch.randn_like(kept))
                losses.append(distance(model(x), original).mean().item())
            parameter.copy_(kept)
            predicted = 0.5 * found[name] * parameter.numel() * 1e-6
            assert predicted == pytest.approx(sum(losses) / len(losses), rel=0.15), name


def test_unreached_tensors_get_zero() -> None:
    used, unused = nn.Linear(3, 4), nn.Linear(3, 4)
    outputs = [(used(torch.randn(5, 3)), 5)]
    found = tensor_sensitivity({"used": used.weight, "unused": unused.weight}, outputs, KL(), 0)
    assert found["unused"] == 0 < found["used"]


def test_shared_parameters_and_gradients_that_are_not_kept() -> None:
    """Against autograd, of a weight that is used twice; afterwards no gradient and no hook is left."""
    torch.manual_seed(0)
    layer, x = nn.Linear(4, 4), torch.randn(6, 4)
    generator = torch.Generator().manual_seed(3)
    probe = KL().probe(layer(layer(x)), generator)
    expected = {name: float(torch.autograd.grad(probe, p, retain_graph=True)[0].square().mean() / 6)
                for name, p in layer.named_parameters()}  # fmt: skip
    parameters = dict(layer.named_parameters())
    assert tensor_sensitivity(parameters, [(layer(layer(x)), 6)], KL(), 3) == pytest.approx(expected)
    assert layer.weight.grad is None
    layer(x).sum().backward()
    assert layer.weight.grad is not None


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
    torch.testing.assert_close(found["hh"].inputs, (before.T @ before).double(), rtol=1e-5, atol=1e-6)
    for place, name in enumerate(("ih", "hh")):
        expected = torch.cat(torch.autograd.grad(total, [each[place] for each in products], retain_graph=True))
        torch.testing.assert_close(found[name].gradients, (expected.T @ expected).double(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1e20, 1e25])
def test_gradients_whose_squares_float32_cannot_hold(scale: float) -> None:
    torch.manual_seed(0)
    model, x, u = nn.Linear(5, 7), torch.randn(20, 5), torch.randn(20, 7)
    runs = [(functools.partial(model, x), 20)]
    plain = measure_curvature(model, {"": model}, runs, lambda out: (u * out).sum())[""].gradients
    found = measure_curvature(model, {"": model}, runs, lambda out: (scale * u * out).sum())[""].gradients
    torch.testing.assert_close(found / scale**2, plain, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_squares_beyond_float32_are_kept(scale: float) -> None:
    """Of inputs, and of gradients, so small or large that their squares are 0 or infinite in float32."""
    torch.manual_seed(0)
    layer, x = nn.Linear(5, 3), torch.randn(40, 5) * scale
    runs = [(lambda: layer(x), 40)]
    found = measure_curvature(layer, {"": layer}, runs, lambda outputs: (outputs * scale).sum())[""]
    expected = x.double().T @ x.double()
    torch.testing.assert_close(found.inputs, expected, rtol=1e-5, atol=1e-5 * scale**2)
    squares = torch.full((3, 3), 40 * scale**2, dtype=torch.float64)
    torch.testing.assert_close(found.gradients, squares, rtol=1e-5, atol=0)
