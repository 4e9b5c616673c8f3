"""A layer in factors: two or three ordinary layers in a row that compute what one with a low-rank weight would."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noworse.model.hooks import hand_over

DENSE = (nn.Linear, nn.Conv2d, nn.Embedding)  # layers that factors can stand for
FLAT, SPATIAL, TUCKER = "flat", "spatial", "tucker"  # how a weight is taken apart
WAYS = (FLAT, SPATIAL, TUCKER)
SPLITS = {FLAT: 0, SPATIAL: 1}  # the same in files (see representation/product.py)


class Factorised(nn.Sequential):
    """Layers in a row in place of one. ``weight`` is the dense weight that they stand for, computed when asked for."""

    way: str

    @property
    def weight(self) -> Tensor:
        """The product of the factors, in the shape of the layer that was replaced."""
        factors: list[Any] = [layer.weight for layer in self]
        return product(self.way, [factors[0], factors[1].T] if isinstance(self[0], nn.Embedding) else factors[::-1])

    @property
    def bias(self) -> Tensor | None:
        """The bias of the last factor, if there is one."""
        return getattr(self[-1], "bias", None)


def replaceable(layer: nn.Module) -> str:
    """Return why factors cannot stand for a layer of one of ``DENSE``; empty where they can.

    A subclass, or a forward of the layer's own, may do more with the weight than the kind itself does.
    """
    if type(layer) not in DENSE:
        return f"a {type(layer).__name__}, which may use its weight in another way than torch's own layers"
    if "forward" in vars(layer):
        return "it has a forward of its own"
    if layer._parameters.get("weight") is None:
        return "its weight is computed from other parameters"
    if isinstance(layer, nn.Conv2d) and layer.groups > 1:
        return f"a convolution of {layer.groups} groups"
    if isinstance(layer, nn.Embedding) and layer.max_norm is not None:
        return "its rows are scaled down to a norm (max_norm) as they are used"
    return ""


def product(way: str, factors: Sequence[Tensor]) -> Tensor:
    """Return the weight that factors stand for, given in the order and shapes of ``factorised``."""
    last, first = factors[0], factors[-1]
    if way == SPATIAL:
        return torch.einsum("orx,rcy->ocyx", last[:, :, 0, :], first[:, :, :, 0])
    if way == TUCKER:
        return torch.einsum("op,pqyx,qc->ocyx", last[:, :, 0, 0], factors[1], first[:, :, 0, 0])
    return (last.flatten(1) @ first.flatten(1)).reshape(last.shape[0], *first.shape[1:])


def shaped(way: str, shape: Sequence[int], left: Tensor, right: Tensor) -> list[Tensor]:
    """Return (M, r) and (r, N) as factors of a weight of ``shape`` that was seen as a matrix in this ``way``."""
    if way == SPATIAL:
        o, c, h, w = shape
        return [left.reshape(o, w, 1, -1).permute(0, 3, 2, 1), right.reshape(-1, c, h, 1)]
    if len(shape) == 4:
        return [left[:, :, None, None], right.reshape(-1, *shape[1:])]
    return [left, right]


# of each factor, the one nearest to the output first: along which axes it has the stride, padding and dilation
AXES: dict[str, tuple[tuple[int, ...], ...]] = {FLAT: ((), (0, 1)), SPATIAL: ((1,), (0,)), TUCKER: ((), (0, 1), ())}


def _convolution(layer: nn.Conv2d, factor: Tensor, axes: Sequence[int]) -> nn.Module:
    """A convolution of a factor's shape that acts as ``layer`` does along some axes."""

    def own(values: Any, other: int) -> Any:
        if isinstance(values, str):
            return values
        return tuple(value if axis in axes else other for axis, value in enumerate(values))

    outputs, inputs, *kernel = factor.shape
    common: dict[str, Any] = {"bias": False, "padding_mode": layer.padding_mode, "device": "meta"}
    sides = own(layer.stride, 1), own(layer.padding, 0), own(layer.dilation, 1)
    return nn.Conv2d(inputs, outputs, (kernel[0], kernel[1]), *sides, **common)


def factorised(layer: nn.Module, way: str, factors: Sequence[Tensor], bias: Tensor | None = None) -> Factorised:
    """Return the replacement of ``layer`` whose weight is the product of ``factors``, the nearest to the output first.

    Factors have the shapes of the weights of ``Factorised``'s layers, those of an embedding (V, r) and (r, D). A layer
    without bias gets none.
    """
    parts: list[Any]
    if isinstance(layer, nn.Embedding):
        (rows, rank), width = factors[0].shape, factors[1].shape[1]
        parts = [nn.Embedding(rows, rank, layer.padding_idx, device="meta"), nn.Linear(rank, width, False, "meta")]
    elif isinstance(layer, nn.Conv2d):
        parts = [_convolution(layer, *each) for each in zip(factors, AXES[way], strict=True)][::-1]
    else:
        parts = [nn.Linear(factor.shape[1], factor.shape[0], False, "meta") for factor in factors[::-1]]
    result = Factorised(*parts)
    result.way = way
    weight: Any = layer.weight
    for part, value in zip(parts, in_order(layer, factors), strict=True):
        part.weight = nn.Parameter(value.detach().to(weight).contiguous(), weight.requires_grad)
    own: Any = getattr(layer, "bias", None)
    if own is not None:
        value = own if bias is None else bias
        parts[-1].bias = nn.Parameter(value.detach().to(weight).clone(), weight.requires_grad)
    return result.train(layer.training)


def in_order(layer: nn.Module, factors: Sequence[Tensor]) -> list[Tensor]:
    """Return factors, the one nearest to the output first, as the weights of the layers that stand for ``layer``."""
    return [factors[0], factors[1].T] if isinstance(layer, nn.Embedding) else list(reversed(factors))


def replace(module: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Put ``new`` wherever ``old`` stands in ``module``, with its hooks and what else it is asked for by name."""
    hand_over(old, new)
    for name, value in vars(old).items():  # in_features, out_channels, what users have set
        if not name.startswith("_") and not hasattr(new, name):
            setattr(new, name, value)
    for owner in list(module.modules()):
        for name, child in owner._modules.items():
            if child is old:
                owner._modules[name] = new


def copied(layer: nn.Module, like: nn.Module) -> Factorised:
    """Return a copy of a layer in factors without hooks, in the device, dtype and mode of the layer ``like``."""
    assert isinstance(layer, Factorised)
    weight: Any = like.weight
    result = Factorised(*(copy.deepcopy(part) for part in layer)).to(weight.device, weight.dtype)
    result.way = layer.way
    return result.requires_grad_(weight.requires_grad).train(like.training)
