"""Fold normalisation layers into their neighbours where that is exact, keeping the module's own keys.

In eval mode a batch norm is the affine map g·x + b with g = γ/√(σ²+ε) and b = β − μ·g. It is rewritten in place as
γ = g, β = b, μ = 0, σ² = 1 − ε, and g moves into the convolution or linear layer before it; a layer norm's γ and β move
into the linear layers after it. What remains of the norm is constant and costs next to nothing in a file, while the
module computes the same. Neighbours are found by hooks (the very tensor one module returned is what another received,
each called once); other uses of that tensor cannot be seen by hooks, so every fold is kept only if the outputs agree.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from noworse.model.tensors import twin
from noworse.survey.capture import Call, capture

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
TOLERANCE = 1e-4  # largest deviation of an output, relative to the largest output


@dataclass
class _Calls:
    """What one forward pass showed: how often each leaf module was called, and which one's output went into which."""

    counts: dict[nn.Module, int] = field(default_factory=dict)  # in the order of their first calls
    passed: list[tuple[nn.Module, nn.Module]] = field(default_factory=list)

    def once(self, module: nn.Module) -> bool:
        return self.counts.get(module) == 1

    def after(self, module: nn.Module) -> list[nn.Module]:
        return [receiver for maker, receiver in self.passed if maker is module]

    def before(self, module: nn.Module) -> list[nn.Module]:
        return [maker for maker, receiver in self.passed if receiver is module]


def _record(module: nn.Module, run: Callable[[nn.Module], Tensor]) -> _Calls:
    calls = _Calls()
    made: dict[int, tuple[weakref.ref[Tensor], nn.Module]] = {}  # weak: a pass frees what it no longer needs

    def see(call: Call) -> None:
        given, layer = call.input, call.layer
        if isinstance(call.result, Tensor):
            calls.counts[layer] = calls.counts.get(layer, 0) + 1
            alive, maker = made.get(id(given), (None, layer))
            if alive is not None and alive() is given:
                calls.passed.append((maker, layer))
            made[id(call.result)] = weakref.ref(call.result), layer

    kinds = (*LAYERS, _BatchNorm, nn.LayerNorm)
    with capture({name: layer for name, layer in module.named_modules() if isinstance(layer, kinds)}, see):
        run(module)
    return calls


@dataclass(frozen=True)
class _Fold:
    """One norm and the layers its scale moves into: the one before a batch norm, those after a layer norm."""

    norm: str
    layers: tuple[str, ...]


def _candidates(module: nn.Module, calls: _Calls) -> list[_Fold]:
    names = {layer: name for name, layer in module.named_modules()}
    folds = []
    for norm in calls.counts:
        if not calls.once(norm):
            continue
        if isinstance(norm, _BatchNorm):
            before = [m for m in calls.before(norm) if isinstance(m, LAYERS) and calls.once(m)]
            folds += [_Fold(names[norm], (names[m],)) for m in before]
        elif isinstance(norm, nn.LayerNorm) and norm.elementwise_affine and len(norm.normalized_shape) == 1:
            after = [m for m in calls.after(norm) if isinstance(m, nn.Linear) and calls.once(m)]
            if after and (norm.bias is None or all(m.bias is not None for m in after)):
                folds.append(_Fold(names[norm], tuple(names[m] for m in after)))
    return folds


def _neutralise(norm: Any) -> None:
    """Rewrite a batch norm's running statistics as 0 and 1 − ε, moving them into its own scale and shift."""
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    norm.bias.copy_(norm.bias.double() - norm.running_mean.double() * scale)
    norm.weight.copy_(scale)
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)


def _apply(module: nn.Module, fold: _Fold) -> None:
    norm: Any = module.get_submodule(fold.norm)
    layers: list[Any] = [module.get_submodule(name) for name in fold.layers]
    if isinstance(norm, _BatchNorm):
        (layer,) = layers
        scale = norm.weight.double()
        layer.weight.copy_(layer.weight.double() * scale.reshape(-1, *[1] * (layer.weight.dim() - 1)))
        if layer.bias is not None:
            norm.bias.add_(layer.bias.double().mul(scale).to(norm.bias))
            layer.bias.zero_()
        norm.weight.fill_(1)
        return
    for layer in layers:
        weight = layer.weight.double()
        if norm.bias is not None:
            layer.bias.add_((weight @ norm.bias.double()).to(layer.bias))
        layer.weight.copy_(weight * norm.weight.double())
    norm.weight.fill_(1)
    if norm.bias is not None:
        norm.bias.zero_()


def _agree(outputs: Tensor, reference: Tensor) -> bool:
    return bool((outputs - reference).abs().max() <= TOLERANCE * reference.abs().max().clamp(min=1e-12))


@torch.no_grad()
def fold_norms(
    module: nn.Module, run: Callable[[nn.Module], Tensor], fixed: Collection[str] = ()
) -> tuple[nn.Module, Sequence[str]]:
    """A copy of ``module`` (in eval mode) with norms folded where exact, and the names of the folded norms.

    ``run(module)`` computes outputs on a few calibration samples; a fold that changes them by more than 1e-4 of the
    largest output is undone. Tensors of the names ``fixed`` stay as they are.
    """
    reference = run(module)
    current = twin(module)
    homes = {name.rpartition(".")[0] for name in fixed}  # modules that take no part
    neutral = [
        norm
        for name, norm in current.named_modules()
        if isinstance(norm, _BatchNorm) and norm.running_mean is not None and norm.affine and name not in homes
    ]
    for norm in neutral:
        _neutralise(norm)
    if not _agree(run(current), reference):
        current = twin(module)  # a batch norm is used in a way that eval mode does not explain: leave all
        neutral = []
    calls = _record(current, run)
    folds = [
        fold
        for fold in _candidates(current, calls)
        if _foldable(current.get_submodule(fold.norm), neutral) and homes.isdisjoint((fold.norm, *fold.layers))
    ]
    trial = twin(current)
    for fold in folds:
        _apply(trial, fold)
    if _agree(run(trial), reference):
        return trial, [fold.norm for fold in folds]
    kept: list[_Fold] = []
    for fold in folds:
        trial = twin(current)
        _apply(trial, fold)
        if _agree(run(trial), reference):
            current = trial
            kept.append(fold)
    return current, [fold.norm for fold in kept]


def _foldable(norm: nn.Module, neutral: Sequence[nn.Module]) -> bool:
    return isinstance(norm, nn.LayerNorm) or norm in neutral
