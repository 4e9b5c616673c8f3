"""A layer in factors: two or three ordinary layers in a row that compute what one with a low-rank weight would."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noworse.model.hooks import hand_over

KINDS = (nn.Linear, nn.Conv2d, nn.Embedding)  # layers that factors can stand for
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
        if isinstance(self[0], nn.Embedding):
            product: Tensor = factors[0] @ factors[1].T
            return product
        return dense(self.way, factors[::-1])

    @property
    def bias(self) -> Tensor | None:
        """The bias of the last factor, if there is one."""
        found: Tensor | None = getattr(self[-1], "bias", None)
        return found


def replaceable(layer: nn.Module) -> str:
    """Why factors cannot stand for a layer of one of ``KINDS``; empty where they can.

    A subclass, or a forward of the layer's own, may do more with the weight than the kind itself does.
    """
    if type(layer) not in KINDS:
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


def dense(way: str, factors: Sequence[Tensor]) -> Tensor:
    """The weight that factors stand for, the one nearest to the output first, in the shapes that ``Factorised`` has."""
    last, first = factors[0], factors[-1]
    if way == SPATIAL:
        return torch.einsum("orx,rcy->ocyx", last[:, :, 0, :], first[:, :, :, 0])
    if way == TUCKER:
        return torch.einsum("op,pqyx,qc->ocyx", last[:, :, 0, 0], factors[1], first[:, :, 0, 0])
    return (last.flatten(1) @ first.flatten(1)).reshape(last.shape[0], *first.shape[1:])


def shaped(way: str, shape: Sequence[int], left: Tensor, right: Tensor) -> list[Tensor]:
    """Two matrices (M, r) and (r, N) as factors of a weight of ``shape`` that was seen as a matrix in this ``way``."""
    if way == SPATIAL:
        o, c, h, w = shape
        return [left.reshape(o, w, 1, -1).permute(0, 3, 2, 1), right.reshape(-1, c, h, 1)]
    if len(shape) == 4:
        return [left[:, :, None, None], right.reshape(-1, *shape[1:])]
    return [left, right]


def _sides(value: Any) -> tuple[Any, Any]:
    return (value, value) if isinstance(value, (int, str)) else tuple(value)


def _convolutions(layer: nn.Conv2d, way: str, factors: Sequence[Tensor]) -> list[nn.Module]:
    common: dict[str, Any] = {"padding_mode": layer.padding_mode, "device": "meta"}
    bias = layer.bias is not None
    ranks = [f.shape[0] for f in factors]
    whole: dict[str, Any] = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation, **common}
    if way == FLAT:
        first = nn.Conv2d(layer.in_channels, ranks[1], layer.kernel_size, bias=False, **whole)  # type: ignore[arg-type]
        return [first, nn.Conv2d(ranks[1], layer.out_channels, 1, bias=bias, device="meta")]
    if way == TUCKER:
        middle = nn.Conv2d(ranks[2], ranks[1], layer.kernel_size, bias=False, **whole)  # type: ignore[arg-type]
        first, last = (nn.Conv2d(a, b, 1, bias=c, device="meta") for a, b, c in
                       ((layer.in_channels, ranks[2], False), (ranks[1], layer.out_channels, bias)))  # fmt: skip
        return [first, middle, last]
    parts = []
    for axis, (a, b, with_bias) in enumerate(
        ((layer.in_channels, ranks[1], False), (ranks[1], layer.out_channels, bias))
    ):

        def side(value: Any, other: int, axis: int = axis) -> Any:
            mine = _sides(value)[axis]
            return mine if isinstance(mine, str) else ((mine, other) if axis == 0 else (other, mine))

        parts.append(nn.Conv2d(a, b, side(layer.kernel_size, 1), side(layer.stride, 1), side(layer.padding, 0),
                               side(layer.dilation, 1), bias=with_bias, **common))  # fmt: skip
    return list(parts)


def factorised(layer: nn.Module, way: str, factors: Sequence[Tensor], bias: Tensor | None = None) -> Factorised:
    """The replacement of ``layer`` whose weight is the product of ``factors``, the one nearest to the output first.

    Factors have the shapes of the weights of ``Factorised``'s layers, those of an embedding (V, r) and (r, D). A layer
    without bias gets none.
    """
    parts: list[nn.Module]
    if isinstance(layer, nn.Embedding):
        rank = factors[0].shape[1]
        table = nn.Embedding(layer.num_embeddings, rank, layer.padding_idx, device="meta")
        parts = [table, nn.Linear(rank, layer.embedding_dim, bias=False, device="meta")]
        values = [factors[0], factors[1].T]
    else:
        values = list(reversed(factors))
        if isinstance(layer, nn.Conv2d):
            parts = _convolutions(layer, way, factors)
        else:
            assert isinstance(layer, nn.Linear)
            rank = factors[0].shape[1]
            last = nn.Linear(rank, layer.out_features, layer.bias is not None, device="meta")
            parts = [nn.Linear(layer.in_features, rank, bias=False, device="meta"), last]
    result = Factorised(*parts)
    result.way = way
    weight: Any = layer.weight
    for part, value in zip(parts, values, strict=True):
        part.weight = nn.Parameter(value.detach().to(weight).contiguous(), weight.requires_grad)
    if isinstance(layer, (nn.Linear, nn.Conv2d)) and layer.bias is not None:
        value = layer.bias if bias is None else bias
        parts[-1].bias = nn.Parameter(value.detach().to(weight).clone(), weight.requires_grad)
    return result.train(layer.training)


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
    """A copy of a layer in factors without hooks, in the device, dtype and mode of the layer ``like``."""
    assert isinstance(layer, Factorised)
    weight: Any = like.weight
    result = Factorised(*(copy.deepcopy(part) for part in layer)).to(weight.device, weight.dtype)
    result.way = layer.way
    return result.requires_grad_(weight.requires_grad).train(like.training)
