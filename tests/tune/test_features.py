from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.survey.capture import watching
from noworse.tune.features import choose_features, variances
from tests.tiny import ConvNet, mlp
from zoo.nets import NETS


def run(module: nn.Module) -> Tensor:
    return module(torch.randn(4, 1, 28, 28))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        ("resnet20", ["layer1", "layer2", "layer3"]),
        ("vit_tiny", ["blocks.1", "blocks.3", "blocks"]),
        ("lenet5", ["conv1", "conv2", "fc1"]),
        ("lenet300", ["fc1", "fc2"]),
        ("mobilenetv2", ["features.8", "features.14", "features"]),
    ],
)
def test_chosen_are_blocks_before_the_head_evenly_by_depth(net: str, expected: list[str]) -> None:
    torch.manual_seed(0)
    assert choose_features(NETS[net]().eval(), run) == expected


def test_hooks_are_gone_afterwards_even_after_a_failure() -> None:
    model = mlp()
    choose_features(model, lambda module: module(torch.randn(4, 20)))
    with pytest.raises(ZeroDivisionError), watching(model, ["0", ""]):
        raise ZeroDivisionError
    with pytest.raises(RuntimeError):
        choose_features(model, lambda module: module(torch.randn(4, 19)))
    assert not any(module._forward_hooks for module in model.modules())


def test_watching_sees_every_call() -> None:
    model, x = mlp(), torch.randn(4, 20)
    with watching(model, ["0", ""]) as calls:
        y = model(x)
        model(x)
    assert len(calls["0"]) == len(calls[""]) == 2
    assert calls[""][0] is y
    assert torch.equal(calls["0"][1], model[0](x))  # type: ignore[index]


def test_named_modules_come_in_their_own_order() -> None:
    names = choose_features(ConvNet(), lambda m: m(torch.randn(2, 1, 12, 12)), ("fc", "conv*"))
    assert names == ["conv1", "conv2", "fc"]


class Odd(nn.Module):
    """One module is called twice, one never, one returns no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.never, self.silent = nn.Linear(20, 20), nn.Linear(20, 20), Silent()

    def forward(self, x: Tensor) -> Tensor:
        self.silent(x)
        return self.twice(self.twice(x))  # type: ignore[no-any-return]


class Silent(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return "nothing"


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("twise",), "no module for features matches 'twise': expected a name such as twice"),
        (("twice",), "module 'twice' is called 2 times: expected features of a module that is called once"),
        (("never",), "module 'never' is called 0 times"),
        (("silent",), "module 'silent' returns no tensor"),
        (("auto",), "no inner module that is called once: expected names of modules"),
    ],
)
def test_modules_that_cannot_be_distilled(patterns: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        choose_features(Odd(), lambda module: module(torch.randn(4, 20)), patterns)


def test_variances_are_over_samples() -> None:
    x = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0, 3.0]) + 7
    assert variances([x, torch.ones(4, 2), torch.ones(1, 2)]) == [pytest.approx(14 / 3, rel=0.05), 1.0, 1.0]
