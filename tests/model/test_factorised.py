from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations as parametrized
from torch.nn.utils import prune

from noworse.model.factorised import FLAT, copied, factorised, replace, replaceable


class Scaled(nn.Embedding):
    def forward(self, ids: Tensor) -> Tensor:
        return 8 * super().forward(ids)


class Tap(nn.Module):
    """Reads what a layer returns by a hook of its own."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(6, 8)
        self.fc.register_forward_hook(self.keep)
        self.fc.register_forward_pre_hook(lambda layer, args, kwargs: ((2 * args[0],), kwargs), with_kwargs=True)
        self.fc.label = "head"  # type: ignore[assignment]

    def keep(self, layer: nn.Module, args: object, out: Tensor) -> None:
        self.seen = out

    def forward(self, x: Tensor) -> Tensor:
        self.fc(x)
        return self.seen.reshape(-1, self.fc.out_features)


def whole(layer: nn.Linear) -> nn.Module:
    """Factors of full rank."""
    return factorised(layer, FLAT, [layer.weight.detach(), torch.eye(layer.in_features)])


def test_only_layers_whose_forward_is_known_are_replaced() -> None:
    own = nn.Linear(3, 3)
    own.forward = lambda x: x  # type: ignore[method-assign]
    layers = {"Scaled": Scaled(5, 4), "forward": own, "2 groups": nn.Conv2d(4, 4, 3, groups=2),
              "max_norm": nn.Embedding(5, 4, max_norm=1.0),
              "ParametrizedLinear": parametrized.orthogonal(nn.Linear(3, 3)),
              "other parameters": prune.l1_unstructured(nn.Linear(3, 3), "weight", 0.5)}  # fmt: skip
    for reason, layer in layers.items():
        assert reason in replaceable(layer)
    assert not any(map(replaceable, (nn.Linear(3, 3), nn.Conv2d(4, 4, 3), nn.Embedding(5, 4))))


def test_hooks_and_attributes_pass_to_the_factors() -> None:
    net, x = Tap(), torch.randn(3, 6)
    expected = net(x)
    replace(net, net.fc, whole(net.fc))
    torch.testing.assert_close(net(x), expected)
    assert (net.fc.in_features, net.fc.label) == (6, "head")


def test_a_copy_of_factors_acts_on_the_model_that_it_is_put_into() -> None:
    source, target, x = Tap(), Tap().double(), torch.randn(3, 6)
    replace(source, source.fc, whole(source.fc))
    target.fc.requires_grad_(False)
    moved = copied(source.fc, target.fc)
    assert not moved._forward_hooks
    replace(target, target.fc, moved)
    expected = copy.deepcopy(source)(x)
    torch.testing.assert_close(target(x.double()).float(), expected)
    assert not target.fc[0].weight.requires_grad
    assert not hasattr(source, "seen")


@pytest.mark.parametrize("way", ["flat", "spatial", "tucker"])
def test_a_convolution_without_a_batch_dimension(way: str) -> None:
    layer, x = nn.Conv2d(2, 3, 3, padding=1), torch.randn(2, 5, 5)
    shapes = {"flat": [(3, 6, 1, 1), (6, 2, 3, 3)], "spatial": [(3, 4, 1, 3), (4, 2, 3, 1)],
              "tucker": [(3, 2, 1, 1), (2, 2, 3, 3), (2, 2, 1, 1)]}  # fmt: skip
    parts = factorised(layer, way, [torch.randn(shape) for shape in shapes[way]])
    other = nn.Conv2d(2, 3, 3, padding=1)
    other.weight, other.bias = nn.Parameter(parts.weight.detach()), parts.bias
    torch.testing.assert_close(parts(x), other(x), atol=1e-4, rtol=1e-4)


GEOMETRIES = [
    {"stride": (2, 1), "padding": (1, 2), "dilation": (2, 1)},
    {"padding": "same", "padding_mode": "circular"},
    {"padding": 1, "padding_mode": "reflect"},
    {"padding": "valid", "stride": 2},
]


@pytest.mark.parametrize("geometry", GEOMETRIES)
@pytest.mark.parametrize("way", ["flat", "spatial", "tucker"])
def test_factors_stride_pad_and_dilate_as_the_layer_does(way: str, geometry: dict[str, object]) -> None:
    torch.manual_seed(0)
    shapes = {"flat": [(5, 4, 1, 1), (4, 3, 3, 5)], "spatial": [(5, 4, 1, 5), (4, 3, 3, 1)],
              "tucker": [(5, 2, 1, 1), (2, 3, 3, 5), (3, 3, 1, 1)]}  # fmt: skip
    layer, x = nn.Conv2d(3, 5, (3, 5), **geometry), torch.randn(2, 3, 12, 13)  # type: ignore[arg-type]
    parts = factorised(layer, way, [torch.randn(shape) for shape in shapes[way]])
    layer.weight = nn.Parameter(parts.weight.detach())
    torch.testing.assert_close(parts(x), layer(x), atol=1e-4, rtol=1e-4)
