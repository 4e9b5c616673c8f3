from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from noworse.propose.grids.grid import GridSet, GridSpec
from noworse.propose.grids.means import channel_means, correct_biases, correct_means, output_means, with_means
from noworse.propose.grids.untuned import Untuned
from noworse.tune.attach import attach
from tests.tiny import ConvNet, mlp

BIAS_STEP = 1 / 128


def grids_on(model: nn.Module, step: float) -> tuple[GridSet, Tensor, Untuned]:
    """Grids with steps of ``step`` (vectors: 1/128), the flat vector, and weights before rounding."""
    weights = dict(model.named_parameters())
    specs = [GridSpec(name, tuple(weight.shape), "float32") for name, weight in weights.items()]
    grids = GridSet(specs, weights, 0.5)
    untuned = Untuned(grids)
    grids.log_step.copy_(torch.tensor([BIAS_STEP if len(s.shape) == 1 else step for s in specs]).log())
    values, _ = attach(model, grids)
    grids.quantise(values)
    return grids, values, untuned


def means_of(model: nn.Module, names: list[str], run: Callable[[nn.Module], object]) -> list[Tensor]:
    found: list[Tensor] = []
    hooks = [
        model.get_submodule(name).register_forward_hook(lambda m, _, out: found.append(channel_means(m, out)))
        for name in names
    ]
    with torch.no_grad():
        run(model)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize(
    ("make", "names", "shape"),
    [
        (mlp, ["0", "2"], (200, 20)),
        (ConvNet, ["bn1", "bn2", "fc"], (50, 1, 12, 12)),
    ],
)
def test_means_come_back_to_within_half_a_step(
    make: Callable[[], nn.Module], names: list[str], shape: tuple[int, ...]
) -> None:
    x = 1 + torch.randn(shape, generator=torch.Generator().manual_seed(0))
    original = make()
    wanted = means_of(original, names, lambda m: m(x))
    rounded = make()
    grids, values, untuned = grids_on(rounded, 0.4)
    before = means_of(rounded, names, lambda m: m(x))
    assert max(float((a - b).abs().max()) for a, b in zip(before, wanted, strict=True)) > 4 * BIAS_STEP
    assert correct_means(rounded, grids, values, untuned, lambda: rounded(x)) > 0
    after = means_of(rounded, names, lambda m: m(x))
    for a, b in zip(after, wanted, strict=True):
        assert float((a - b).abs().max()) <= 0.5 * BIAS_STEP + 1e-5


def test_the_new_biases_are_what_the_grids_hold() -> None:
    model, x = mlp(), 1 + torch.randn(200, 20)
    grids, values, untuned = grids_on(model, 0.4)
    correct_means(model, grids, values, untuned, lambda: model(x))
    held = values.clone()
    grids.quantise(values)
    torch.testing.assert_close(values, held)
    stored = grids.representations()["0.bias"].storage()
    torch.testing.assert_close(torch.from_numpy(stored), model[0].bias.detach())  # type: ignore[index]


def test_without_rounding_nothing_moves() -> None:
    model, x = mlp(), torch.randn(200, 20)
    grids, values, untuned = grids_on(model, 2.0**-20)
    assert correct_means(model, grids, values, untuned, lambda: model(x)) == 0


def test_a_layer_that_is_called_twice_keeps_its_bias() -> None:
    model, x = mlp(), 1 + torch.randn(200, 20)
    grids, values, untuned = grids_on(model, 0.4)
    assert correct_means(model, grids, values, untuned, lambda: [model(part) for part in x.split(100)]) == 0


def damaged(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.dim() > 1:
                weight.add_(0.3 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(len(name))))
    return model


def test_biases_bring_all_means_back_where_each_layer_sees_what_those_before_it_make() -> None:
    x = 1 + torch.randn(50, 1, 12, 12, generator=torch.Generator().manual_seed(0))
    original, changed = ConvNet(), damaged(ConvNet())
    _, wanted = output_means(original, ["bn1", "bn2", "fc"], lambda: original(x))
    correct_biases(changed, wanted, lambda: changed(x))
    _, found = output_means(changed, list(wanted), lambda: changed(x))
    assert list(found) == ["bn1", "bn2", "fc"]
    for name, (mean,) in found.items():
        torch.testing.assert_close(mean, wanted[name][0], atol=1e-5, rtol=1e-5)


def test_means_kept_in_passing_are_those_of_biases() -> None:
    x = 1 + torch.randn(200, 20, generator=torch.Generator().manual_seed(0))
    original, changed = mlp(), damaged(mlp())
    _, wanted = output_means(original, ["0", "2"], lambda: original(x))
    before = copy.deepcopy(changed.state_dict())
    passing = with_means(changed, ["0", "2"], wanted, lambda: changed(x))
    assert all(torch.equal(value, before[name]) for name, value in changed.state_dict().items())
    correct_biases(changed, wanted, lambda: changed(x))
    torch.testing.assert_close(passing, changed(x), atol=1e-5, rtol=1e-5)


def test_layers_without_a_bias_or_called_twice_stay() -> None:
    twice = nn.Linear(4, 4)
    model = nn.Sequential(twice, nn.Linear(4, 4, bias=False), twice)
    x = torch.randn(30, 4)
    _, wanted = output_means(model, ["0", "1"], lambda: model(x))
    with torch.no_grad():
        model[1].weight.add_(1.0)
        expected = model(x)
        assert torch.equal(with_means(model, ["0", "1"], wanted, lambda: model(x)), expected)
    before = twice.bias.clone()
    correct_biases(model, wanted, lambda: model(x))
    assert torch.equal(twice.bias, before)


def test_means_of_one_image_and_of_nothing() -> None:
    layer = nn.Conv2d(2, 3, 3)
    image = torch.randn(2, 6, 6)
    torch.testing.assert_close(channel_means(layer, layer(image)), channel_means(layer, layer(image[None])))
    _, means = output_means(layer, [""], lambda: layer(image[None][:0]))
    assert not means
