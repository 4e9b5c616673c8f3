"""Fold normalisation layers into their neighbours where that is exact, keeping the module's own keys (docs/method.md).

A batch norm's scale moves into the layer before it, a layer norm's scale and shift into the linear layers after it.
Neighbours are found by hooks (the very tensor one module returned is what another received, each called once); other
uses of that tensor cannot be seen by hooks, so every fold is kept only if the outputs agree.
"""

import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from noworse.model.device import double
from noworse.model.tensors import twin
from noworse.survey.capture import Call, capture

LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
TOLERANCE = 1e-4  # largest deviation of an output, relative to the largest output


def _folds(module: nn.Module, run: Callable[[nn.Module], Tensor]) -> list[list[str]]:
    """Names of each norm and of the layers its scale may move into, which one forward pass calls once each.

    These are the layer before a batch norm, those after a layer norm.
    """
    counts: dict[nn.Module, int] = {}  # in the order of first calls
    passed: list[tuple[nn.Module, nn.Module]] = []  # layers one of whose output is the other's input
    made: dict[int, tuple[weakref.ref[Tensor], nn.Module]] = {}  # weak: a pass frees what it no longer needs

    def see(call: Call) -> None:
        given, layer = call.input, call.layer
        if isinstance(call.result, Tensor):
            counts[layer] = counts.get(layer, 0) + 1
            alive, maker = made.get(id(given), (None, layer))
            if alive is not None and alive() is given:
                passed.append((maker, layer))
            made[id(call.result)] = weakref.ref(call.result), layer

    kinds = (*LAYERS, _BatchNorm, nn.LayerNorm)
    layers = {name: layer for name, layer in module.named_modules() if isinstance(layer, kinds)}
    with capture(layers, see):
        run(module)
    once = {layer: name for name, layer in layers.items() if counts.get(layer) == 1}
    folds = []
    for norm in (layer for layer in counts if layer in once):
        near: list[Any] = []
        if isinstance(norm, _BatchNorm):
            near = [m for m, receiver in passed if receiver is norm and m in once and isinstance(m, LAYERS)]
        elif isinstance(norm, nn.LayerNorm) and norm.elementwise_affine and len(norm.normalized_shape) == 1:
            near = [m for maker, m in passed if maker is norm and m in once and isinstance(m, nn.Linear)]
            if norm.bias is not None and any(m.bias is None for m in near):
                continue
        if near:
            folds.append([once[norm], *map(once.__getitem__, near)])
    return folds


def _neutralise(norm: Any) -> None:
    """Rewrite a batch norm's running statistics as 0 and 1 − ε, moving them into its own scale and shift."""
    scale = double(norm.weight) / (double(norm.running_var) + norm.eps).sqrt()
    norm.bias.copy_(double(norm.bias) - double(norm.running_mean) * scale)
    norm.weight.copy_(scale)
    norm.running_mean.zero_()
    norm.running_var.fill_(1 - norm.eps)


def _scale(norm: Any, layer: Any) -> Tensor:
    """What a norm multiplies the weight of a neighbour by, in float64."""
    scale: Tensor = double(norm.weight.detach())
    return scale.reshape(-1, *[1] * (layer.weight.dim() - 1)) if isinstance(norm, _BatchNorm) else scale


def _fold(norm: Any, layers: Sequence[Any]) -> None:
    """Move a norm's scale, and where it can be its shift, into its neighbours, in place."""
    for layer in layers:
        weight = double(layer.weight)
        layer.weight.copy_(weight * _scale(norm, layer))
        if isinstance(norm, _BatchNorm):
            if layer.bias is not None:
                norm.bias.add_(double(layer.bias).mul(double(norm.weight)).to(norm.bias))
                layer.bias.zero_()
        elif norm.bias is not None:
            layer.bias.add_((weight @ double(norm.bias)).to(layer.bias))
    norm.weight.fill_(1)
    if isinstance(norm, nn.LayerNorm) and norm.bias is not None:
        norm.bias.zero_()


@torch.no_grad()
def fold_norms(
    module: nn.Module,
    run: Callable[[nn.Module], Tensor],
    fixed: Collection[str] = (),
    scales: dict[str, list[Tensor]] | None = None,
) -> tuple[nn.Module, Sequence[str]]:
    """Return a copy of ``module`` (in eval mode) with norms folded where exact, and the names of the folded norms.

    ``run(module)`` computes outputs on a few calibration samples; a fold that changes them by more than 1e-4 of the
    largest output is undone. Tensors of the names ``fixed`` stay as they are. ``scales`` gets by layer what its weight
    was multiplied by, one after the other.
    """
    reference = run(module)
    closest = TOLERANCE * reference.abs().max().clamp(min=1e-12)

    def agrees(candidate: nn.Module) -> bool:
        return bool((run(candidate) - reference).abs().max() <= closest)

    def folded(base: nn.Module, folds: Iterable[Sequence[str]]) -> nn.Module | None:
        trial, factors = twin(base), []
        for norm, *names in folds:
            own, layers = trial.get_submodule(norm), [trial.get_submodule(name) for name in names]
            factors += [(name, _scale(own, layer)) for name, layer in zip(names, layers, strict=True)]
            _fold(own, layers)
        if not agrees(trial):
            return None
        if scales is not None:
            for name, factor in factors:
                scales.setdefault(name, []).append(factor)
        return trial

    current = twin(module)
    homes = {name.rpartition(".")[0] for name in fixed}  # modules that take no part
    neutral = {
        name: norm
        for name, norm in current.named_modules()
        if isinstance(norm, _BatchNorm) and norm.running_mean is not None and norm.affine and name not in homes
    }
    for norm in neutral.values():
        _neutralise(norm)
    if not agrees(current):
        current, neutral = twin(module), {}  # a batch norm is used in a way that eval mode does not explain: leave all
    folds = [
        fold
        for fold in _folds(current, run)
        if homes.isdisjoint(fold) and (fold[0] in neutral or isinstance(current.get_submodule(fold[0]), nn.LayerNorm))
    ]
    together = folded(current, folds)
    if together is not None:
        return together, [norm for norm, *_ in folds]
    kept = []
    for fold in folds:
        trial = folded(current, [fold])
        if trial is not None:
            current = trial
            kept.append(fold[0])
    return current, kept
