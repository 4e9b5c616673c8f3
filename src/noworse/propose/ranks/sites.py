"""Which layers of a model can be taken apart, and why the others cannot."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from noworse.model.attention import Attention, openable
from noworse.model.factorised import DENSE, Factorised, replace, replaceable
from noworse.survey.kronecker import Decomposable

Filter = Callable[[str, nn.Module], bool]


@dataclass(frozen=True)
class Sites:
    """Layers by name, and the reasons why others of these kinds are left alone."""

    layers: dict[str, Decomposable]
    alone: dict[str, str] = field(default_factory=dict)


def open_attention(module: nn.Module) -> None:
    """Give multi-head attention layers, in place, projections that can be replaced one by one."""
    for layer in list(module.modules()):
        if openable(layer):
            assert isinstance(layer, nn.MultiheadAttention)
            replace(module, layer, Attention(layer))


def find_sites(module: nn.Module, only: Filter | None = None) -> Sites:
    """Return the layers that ``only`` accepts (all without it) and whose weight can be replaced by factors."""
    uses: Counter[int] = Counter()
    for layer in module.modules():
        uses.update(id(parameter) for parameter in layer._parameters.values() if parameter is not None)
    inside = {id(part) for layer in module.modules() for part in _private_parts(layer)}
    found = Sites({})
    for name, layer in module.named_modules():
        if isinstance(layer, nn.MultiheadAttention) and not openable(layer):
            found.alone[name] = "attention with biases of keys and values, zeros added, or a forward of its own"
        if not isinstance(layer, DENSE) or id(layer) in inside or (only is not None and not only(name, layer)):
            continue
        reason = replaceable(layer) or _reason(layer, uses)
        if reason:
            found.alone[name] = reason
        else:
            found.layers[name] = layer
    return found


def _private_parts(layer: nn.Module) -> list[nn.Module]:
    """Layers whose weights their owner reads itself, and those that are factors already."""
    if isinstance(layer, nn.MultiheadAttention):
        return [layer.out_proj]
    return list(layer) if isinstance(layer, Factorised) else []


def _reason(layer: Decomposable, uses: Counter[int]) -> str:
    weight = layer.weight
    if uses[id(weight)] > 1:
        return "its weight is tied to another layer's"
    if not weight.is_floating_point() or not bool(torch.isfinite(weight).all()):
        return f"its weight is no tensor of finite numbers but of {weight.dtype}"
    rows, columns = weight.shape[0], weight[0].numel()
    if rows + columns >= rows * columns:
        return f"{rows} x {columns}: no rank is below break-even"
    return ""
