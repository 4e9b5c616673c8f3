"""Every kind of sensitivity against autograd's gradients, Jacobians and Hessians in float64."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import noworse
from noworse.errors import BadInput
from noworse.sensitivity import ESTIMATORS, Estimate, measure
from noworse.sensitivity.measure import Runs, estimate, mean_slopes
from tests import tiny

DOUBLE: Any = {"dtype": torch.float64}


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 6), nn.Tanh(), nn.Linear(6, 3)).double()


def batches(samples: int = 12) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(samples, 5, generator=generator, dtype=torch.float64)
    y = torch.randint(0, 3, (samples,), generator=generator)
    return list(zip(x.split(8), y.split(8), strict=True))


def joined(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    return torch.cat([x for x, _ in parts]), torch.cat([y for _, y in parts])


def rounding(tensor: Tensor) -> Tensor:
    return (4 * tensor).round() / 4 - tensor


def weight_loss(model: nn.Module, name: str, batch: tuple[Tensor, Tensor]) -> Any:
    """The mean loss as a function of one weight."""
    return lambda w: F.cross_entropy(torch.func.functional_call(model, {name: w}, (batch[0],)), batch[1])


def test_first_and_second_order_of_a_weight_are_those_of_autograd() -> None:
    model, data = net(), batches()
    weight = model.get_parameter("0.weight").detach()
    delta, whole = rounding(weight), weight_loss(model, "0.weight", joined(data))
    slope = (torch.func.grad(whole)(weight) * delta).sum().item()
    hessian = torch.func.hessian(whole)(weight).reshape(30, 30)
    curvature = (delta.flatten() @ hessian @ delta.flatten()).item()
    for error in (delta, rounding):
        first = measure(model, loss, data, {"0.weight": error}, "first-order", **DOUBLE)["0.weight"]
        second = measure(model, loss, data, {"0.weight": error}, "second-order", **DOUBLE)["0.weight"]
        assert first.mean == pytest.approx(slope, rel=1e-10)
        assert second.mean == pytest.approx(slope + curvature / 2, rel=1e-10)
        assert first.samples == 12


def test_gauss_newton_is_the_jacobians_of_the_outputs_in_their_curvature() -> None:
    model, data = net(), batches()
    x, _ = joined(data)
    weight = model.get_parameter("0.weight").detach()
    delta = rounding(weight)
    jacobian = torch.func.jacrev(lambda w: torch.func.functional_call(model, {"0.weight": w}, (x,)))(weight)
    dz = jacobian.reshape(12, 3, 30) @ delta.flatten()
    p = model(x).softmax(1).detach()
    expected = ((p * dz.square()).sum(1) - (p * dz).sum(1).square()) / 2  # ½ dzᵀ (diag p − p pᵀ) dz
    found = measure(model, loss, data, {"0.weight": delta}, "quadratic", **DOUBLE)["0.weight"]
    assert found.mean == pytest.approx(expected.mean().item(), rel=1e-10)
    assert found.standard_error == pytest.approx(expected.std().item() / np.sqrt(12), rel=1e-10)
    first, both = (
        measure(model, loss, data, {"0.weight": delta}, k, **DOUBLE)["0.weight"].mean
        for k in ("first-order", "gauss-newton")
    )
    assert both == pytest.approx(first + found.mean, rel=1e-10)


def test_the_secant_is_second_order_in_the_outputs_actual_change() -> None:
    model, data = net(), batches()
    x, y = joined(data)
    moved = copy.deepcopy(model)
    with torch.no_grad():
        moved[0].weight += rounding(moved[0].weight)
        dz, p = moved(x) - model(x), model(x).softmax(1)
    slope = ((p - F.one_hot(y, 3)) * dz).sum(1)
    expected = slope + ((p * dz.square()).sum(1) - (p * dz).sum(1).square()) / 2
    found = measure(model, loss, data, {"0.weight": rounding}, "secant", **DOUBLE)["0.weight"]
    assert found.mean == pytest.approx(expected.mean().item(), rel=1e-10)


class Sparse(nn.Module):
    """A product with a sparse matrix, which torch does not differentiate in forward mode."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Linear(5, 3)
        self.register_buffer("graph", torch.eye(12).to_sparse(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.graph @ self.mix(x)


@pytest.mark.parametrize("kind", ["first-order", "gauss-newton", "second-order"])
def test_models_without_forward_derivatives(kind: str) -> None:
    torch.manual_seed(0)
    model, data = Sparse(), [tuple(joined(batches()))]
    plain = copy.deepcopy(model)
    plain.graph = model.graph.to_dense()
    found, expected = (
        measure(net, loss, data, {"mix.weight": rounding}, kind, **DOUBLE)["mix.weight"] for net in (model, plain)
    )
    assert found.mean == pytest.approx(expected.mean, rel=1e-10)
    assert found.standard_error == pytest.approx(expected.standard_error, rel=1e-10)


def test_first_order_of_an_activation_is_taken_sample_by_sample() -> None:
    model, data = net(), batches()
    x, y = joined(data)
    h = torch.tanh(model[0](x)).detach().requires_grad_()
    gradient = torch.autograd.grad(F.cross_entropy(model[2](h), y, reduction="sum"), h)[0]
    expected = (gradient * rounding(h)).sum(1).detach()
    found = measure(model, loss, data, {"2": rounding}, "first-order", **DOUBLE)["2"]
    assert found.mean == pytest.approx(expected.mean().item(), rel=1e-10)
    assert found.standard_error == pytest.approx(expected.std().item() / np.sqrt(12), rel=1e-10)


def test_the_loss_is_that_of_a_model_with_the_error() -> None:
    model, data = net(), batches()
    x, y = joined(data)
    moved = copy.deepcopy(model)
    with torch.no_grad():
        moved[0].weight += rounding(moved[0].weight)
        h = torch.tanh(moved[0](x))
        expected = loss(lambda _: moved[2](h + rounding(torch.tanh(model[0](x)))), (x, y)) - loss(model, (x, y))
    found = measure(model, loss, data, {"both": {"0.weight": rounding, "2": rounding}}, "loss", **DOUBLE)["both"]
    assert found.mean == pytest.approx(expected.mean().item(), rel=1e-10)


def test_fisher_is_the_expected_square_of_the_gradient() -> None:
    model, data = net(), batches(4000)
    x, _ = joined(data)
    h = torch.tanh(model[0](x)).detach()
    p = model(x).softmax(1).detach()
    delta = rounding(model[2].weight.detach())
    # E over labels of (p − e_y)² is p (1 − p); the gradient of W is (p − e_y) hᵀ
    weights = ((p * (1 - p)).T @ h.square() / len(x) * delta.square()).sum() / 2
    matrix = model[2].weight.detach()
    second = torch.einsum("nk,ki->ni", p, matrix.square()) - (p @ matrix).square()
    inputs = (second * rounding(h).square()).sum(1).mean() / 2
    found = measure(model, None, [x for x, _ in data], {"2.weight": delta, "2": rounding}, "fisher", **DOUBLE)
    for label, expected in (("2.weight", weights), ("2", inputs)):
        assert abs(found[label].mean - expected.item()) < 4 * found[label].standard_error
        assert found[label].standard_error < 0.1 * expected.item()


def test_without_a_loss_the_own_outputs_are_distilled_and_curvature_is_all_there_is() -> None:
    model, data = net(), [x for x, _ in batches()]
    found = {k: measure(model, None, data, {"0.weight": rounding}, k, **DOUBLE)["0.weight"].mean for k in ESTIMATORS}
    assert found["first-order"] == pytest.approx(0, abs=1e-12)
    assert found["gauss-newton"] == pytest.approx(found["second-order"], rel=1e-9)
    assert found["loss"] > 0
    for distill in ("mse", "cosine"):
        assert measure(model, None, data, {"0.weight": rounding}, distill=distill, **DOUBLE)["0.weight"].mean > 0


class Twice(nn.Module):
    """A layer called twice, under two names, and one that is never called."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.never = nn.Linear(5, 5), nn.Linear(5, 5)
        self.again = self.first
        self.last = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.again(torch.tanh(self.first(x))))  # type: ignore[no-any-return]


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_layers_called_twice_count_twice_and_layers_never_called_nothing(kind: str) -> None:
    model, data = Twice().double(), batches()
    errors = {"first": rounding, "again": rounding, "never": rounding, "never.weight": rounding}
    found = measure(model, loss, data, errors, kind, **DOUBLE)
    assert found["first"] == found["again"]
    assert found["never"].mean == found["never.weight"].mean == 0
    if kind == "loss":
        x, y = joined(data)
        h = torch.tanh(model.first(x + rounding(x)))
        h = h + rounding(torch.tanh(model.first(x)))  # errors are those of what the unmoved model is fed
        moved = F.cross_entropy(model.last(model.first(h)), y) - F.cross_entropy(model(x), y)
        assert found["first"].mean == pytest.approx(moved.item(), rel=1e-9)


def test_one_backward_pass_finds_the_first_order_of_all_errors() -> None:
    model, data = Twice().double(), batches()
    errors: Any = {name: {name: rounding} for name in ("first", "first.weight", "last", "last.bias", "never")}
    errors["together"] = {"first": rounding, "last.weight": rounding}
    found = mean_slopes(Runs(model, loss, data, errors, **DOUBLE))
    forward = measure(model, loss, data, errors, "first-order", **DOUBLE)
    assert found == pytest.approx({label: each.mean for label, each in forward.items()}, rel=1e-9)
    assert found["together"] == pytest.approx(
        found["first"]
        + measure(model, loss, data, {"last.weight": rounding}, "first-order", **DOUBLE)["last.weight"].mean
    )


def test_dict_inputs_and_tied_weights() -> None:
    model = tiny.Language()
    data = tiny.language_task(model).verify
    errors = {"embed.weight": rounding, "head.weight": rounding, "mix": rounding}
    found = {k: measure(model, tiny.language_loss, data, errors, k) for k in ("gauss-newton", "loss")}
    for estimates in found.values():
        assert estimates["embed.weight"] == estimates["head.weight"]
    assert found["gauss-newton"]["mix"].mean == pytest.approx(found["loss"]["mix"].mean, rel=0.2, abs=1e-4)


def test_the_callers_model_stays_as_it_is() -> None:
    model = tiny.ConvNet()
    model.bn1.train()
    task = tiny.task(model, 1, 12, 12)
    model.bn1.train()
    before = copy.deepcopy(model.state_dict())
    for kind in ESTIMATORS:
        measure(model, tiny.loss, task.verify, {"conv2": rounding, "conv1.weight": rounding}, kind)
    assert model.bn1.training
    assert not model.conv1.training
    assert all(p.requires_grad for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(m._forward_pre_hooks or m._forward_hooks or "forward" in vars(m) for m in model.modules())


@pytest.mark.parametrize(
    ("errors", "kind", "message"),
    [
        ({"0.weight": rounding}, "hessian", "unknown kind 'hessian'.*'?first-order"),
        ({}, "loss", "errors is dict: expected a mapping"),
        ({"nothing": rounding}, "loss", "names 'nothing': expected a parameter or a layer"),
        ({"all": {}}, "loss", "names no tensor"),
        ({"0.weight": 3}, "loss", "is int: expected a tensor or a function"),
        ({"0.weight": torch.zeros(7, 5)}, "loss", r"shape \(7, 5\): expected \(6, 5\)"),
        ({"0.weight": torch.full((6, 5), torch.nan)}, "loss", "NaN or infinite"),
        ({"2": lambda h: None}, "loss", "is NoneType: expected a tensor"),
    ],
)
def test_bad_input(errors: Any, kind: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        measure(net(), loss, batches(), errors, kind, **DOUBLE)


def test_integer_inputs_cannot_be_moved() -> None:
    model = tiny.Language()
    with pytest.raises(BadInput, match=r"layer 'embed' is fed torch\.int64: expected a floating-point input"):
        measure(model, tiny.language_loss, tiny.language_task(model).verify, {"embed": rounding})


def test_a_loss_that_does_not_call_the_model() -> None:
    with pytest.raises(BadInput, match="does not call the model"):
        measure(net(), lambda m, b: b[0].sum(1), batches(), {"0.weight": rounding}, **DOUBLE)


def test_estimates_of_groups() -> None:
    values = np.array([1.0, 2.0, 6.0])
    assert estimate(values, np.ones(3)) == Estimate(3.0, pytest.approx(values.std(ddof=1) / np.sqrt(3)), 3)
    assert estimate(np.array([1.0, 3.0]), np.array([30.0, 10.0])).mean == 1.5
    assert np.isnan(estimate(np.array([1.0]), np.array([5.0])).standard_error)


def test_it_is_reached_from_the_package() -> None:
    assert noworse.sensitivity.measure is measure


def test_settings_that_there_are_not() -> None:
    with pytest.raises(TypeError, match="unknown sede: expected dtype, forward, distill, seed"):
        measure(net(), loss, batches(), {"0.weight": rounding}, sede=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="sede"):
        noworse.neighborhood(net(), loss, batches(), sede=1)
