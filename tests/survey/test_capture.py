from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.survey.capture import NEVER, Call, capture, columns, count_flops, feeding, gradients, rows, watching
from noworse.survey.curvature import measure_curvature
from noworse.survey.moments import input_moments

X = torch.arange(12.0).reshape(4, 3)
NESTED = torch.nested.nested_tensor([X[:1], X[1:]])


def fed(layer: nn.Module, *args: object, **kwargs: object) -> tuple[list[Tensor], dict[str, str]]:
    """What a layer was given in one call, and what was missed."""
    found: list[Tensor] = []
    with capture({"layer": layer}, lambda call: found.append(call.input)) as seen:
        layer(*args, **kwargs)
    return found, seen.missed


@pytest.mark.parametrize("call", [lambda f: f(X), lambda f: f(input=X)])
def test_inputs_are_seen_by_position_and_by_keyword(call: Callable[[nn.Module], object]) -> None:
    layer, found = nn.Linear(3, 2), []
    with capture({"layer": layer}, lambda seen: found.append(seen.input)):
        call(layer)
    assert found[0] is X


class Wraps(nn.Module):
    """Takes its tensors in a mapping, or none."""

    def forward(self, given: object) -> object:
        return given


def test_the_first_tensor_may_be_inside_of_another_argument_and_where_there_is_none_a_reason_is() -> None:
    assert fed(Wraps(), {"hidden": X})[0][0] is X
    found, missed = fed(Wraps(), "text")
    assert not found
    assert missed == {"layer": "it is fed no tensor but str"}


def test_every_call_is_seen_and_a_layer_without_any_is_listed() -> None:
    used, idle, results = nn.Linear(3, 3), nn.Linear(3, 3), []
    with capture({"used": used, "idle": idle}, lambda call: results.append(call.result)) as seen:
        last = used(used(X))
    assert torch.equal(results[0], used(X))
    assert results[1] is last
    assert seen.calls == {"used": 2, "idle": 0}
    assert seen.missed == {"idle": NEVER}


def test_results_are_the_models_or_the_layers_own_and_can_be_replaced() -> None:
    layer = nn.Linear(3, 2)
    layer.register_forward_hook(lambda module, args, result: 5 * result)
    seen: dict[bool, Tensor] = {}
    for own in (False, True):
        with capture({"": layer}, lambda call, own=own: seen.update({own: call.result}), own=own):
            layer(X)
    torch.testing.assert_close(seen[False], 5 * seen[True])
    with capture({"": layer}, lambda call: call.result * 0):
        assert not layer(X).any()
    assert len(layer._forward_hooks) == 1


def test_hooks_are_gone_after_a_failure() -> None:
    layer = nn.Linear(3, 2)
    with pytest.raises(RuntimeError), capture({"": layer}, enter=lambda call: None):
        layer(torch.ones(4))
    with pytest.raises(ZeroDivisionError), watching(layer, [""]):
        1 / 0  # noqa: B018
    assert not layer._forward_hooks
    assert not layer._forward_pre_hooks


def test_fed_something_else_in_the_block_only() -> None:
    layer = nn.Linear(3, 2)
    before = layer(X)
    with feeding({"layer": layer}, lambda name, inputs: inputs + 1):
        torch.testing.assert_close(layer(input=X), before + layer.weight.sum(1))
    assert torch.equal(layer(X), before)
    table = nn.Embedding(9, 2)
    with feeding({"table": table}, lambda name, ids: ids), pytest.raises(BadInput, match="int64"):
        table(torch.tensor([1]))


def test_gradients_are_shown_once_and_not_kept() -> None:
    layer, seen = nn.Linear(3, 1, bias=False), {}
    with gradients({"w": layer.weight}, lambda name, gradient: seen.update({name: gradient})):
        layer(X).sum().backward()
    torch.testing.assert_close(seen["w"][0], X.sum(0))
    assert layer.weight.grad is None


INPUTS = {
    "matrix": X,
    "vector": X[0],
    "nothing": X[:0],
    "many dimensions": X.reshape(1, 2, 2, 3),
    "sparse": X.to_sparse(),
    "nested": NESTED,
}


@pytest.mark.parametrize("kind", INPUTS)
def test_rows_of_a_linear_layer_are_what_it_multiplies(kind: str) -> None:
    """Their product with the weight is what the layer returns."""
    layer = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        inputs, expected = INPUTS[kind], layer(INPUTS[kind])
        torch.testing.assert_close(layer.weight @ columns(layer, inputs)[0], rows(expected, 2).T)


@pytest.mark.parametrize("shape", [(2, 4, 6, 5), (4, 6, 5), (0, 4, 6, 5)])
@pytest.mark.parametrize("groups", [1, 2])
def test_columns_of_a_convolution_are_what_it_multiplies(shape: tuple[int, ...], groups: int) -> None:
    layer, inputs = nn.Conv2d(4, 6, 3, padding=1, groups=groups, bias=False), torch.randn(shape)
    found = columns(layer, inputs)
    product = layer.weight.reshape(groups, 6 // groups, -1) @ found  # (G, O/G, N)
    expected = layer(inputs)
    expected = expected if expected.dim() == 4 else expected[None]
    torch.testing.assert_close(product.reshape(6, -1), expected.transpose(0, 1).flatten(1), atol=1e-5, rtol=1e-5)


class Transposed(nn.Linear):
    """Its weight is not what its inputs are multiplied with."""

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


class Net(nn.Module):
    """One layer of every kind that hooks see in an odd way, or not at all."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.expert, self.odd, self.idle = nn.Linear(3, 5), nn.Linear(5, 5), Transposed(4, 5), nn.Linear(4, 4)
        self.table = nn.Embedding(10, 3)

    def forward(self, ids: Tensor) -> Tensor:
        x = torch.stack([self.a(input=row) for row in self.table(input=ids)])
        return self.odd(torch.tanh(x) + 0 * self.expert(x[:0]).sum())


@pytest.fixture
def ids() -> Tensor:
    return torch.randint(0, 10, (20,), generator=torch.Generator().manual_seed(0))


MISSED = {"expert": "nothing in a batch", "odd": r"expected real numbers", "idle": "never calls"}


def test_moments_are_of_all_that_can_be_seen_and_the_rest_is_listed(ids: Tensor) -> None:
    net = Net()
    weights = {name: getattr(net, name).weight for name in ("a", *MISSED)}
    found = input_moments(net, weights, [partial(net, ids)])
    x = net.table(ids).detach()
    torch.testing.assert_close(found["a"][0], x.T @ x / 20)
    assert found.keys() == {"a"}
    assert all(MISSED[name] in reason for name, reason in found.missed.items())
    assert found.missed.keys() == MISSED.keys()


def test_curvature_likewise_with_gradients_of_single_rows(ids: Tensor) -> None:
    net, u = Net(), torch.randn(20, 4)
    layers = {name: getattr(net, name) for name in ("table", "a", *MISSED)}
    found = measure_curvature(net, layers, [(partial(net, ids), 20)], lambda out: (u * out).sum())
    assert found.keys() == {"table", "a"}
    assert found.missed.keys() == MISSED.keys()
    assert torch.equal(found["table"].inputs, torch.bincount(ids, minlength=10).double())
    x = net.a(net.table(ids)).detach()
    expected = (u @ net.odd.weight.T.detach()) * (1 - torch.tanh(x).square())
    torch.testing.assert_close(found["a"].gradients, (expected.T @ expected).double(), rtol=1e-4, atol=1e-5)


def test_curvature_is_of_the_layer_itself_where_a_hook_changes_its_result() -> None:
    layer, x = nn.Linear(3, 2), torch.randn(6, 3)
    layer.register_forward_hook(lambda module, args, result: 3 * result)
    found = measure_curvature(layer, {"": layer}, [(partial(layer, x), 6)], torch.sum)[""]
    torch.testing.assert_close(found.gradients, torch.full((2, 2), 9.0 * 6, dtype=torch.float64))


def test_layers_of_padded_transformers_are_seen_without_padding() -> None:
    """The encoder packs sequences into nested tensors; dropped are the rows of padding."""
    torch.manual_seed(0)
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True), 1).eval()
    padding = torch.zeros(3, 6, dtype=torch.bool)
    padding[0, 4:] = padding[1, 5:] = True
    run = partial(encoder, torch.randn(3, 6, 8), src_key_padding_mask=padding)
    counts: dict[str, int] = {}

    def see(call: Call) -> None:
        counts[call.name] = columns(call.layer, call.input).shape[2]  # type: ignore[arg-type]

    layer = encoder.layers[0]
    with torch.no_grad(), capture({"linear1": layer.linear1, "out": layer.self_attn.out_proj}, see) as seen:
        run()
    assert counts == {"linear1": 15}
    assert seen.missed == {"out": NEVER}


def test_operations_are_two_for_each_product_of_a_weight_and_an_input() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Flatten(), nn.Linear(8 * 25, 4))
    convolution, linear = 2 * 25 * 8 * 27, 2 * 4 * 200  # places x outputs x inputs of each
    assert count_flops(net, lambda m: m(torch.randn(6, 3, 5, 5)), 6) == convolution + linear


def test_a_layer_counts_in_each_of_its_calls() -> None:
    layer = nn.Linear(5, 5)
    assert count_flops(layer, lambda m: m(m(torch.randn(2, 5))), 2) == 2 * 2 * 25
