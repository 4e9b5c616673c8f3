"""From chosen ranks to a module: layers replaced one after the other, each made for what the ones before feed it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace as changed
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from noworse.model.factorised import TUCKER, factorised, replace
from noworse.model.tensors import twin
from noworse.propose.ranks.candidates import Analysis, Candidate
from noworse.propose.ranks.spectrum import DAMPING
from noworse.survey.capture import capture, columns
from noworse.survey.kronecker import add_columns, fresh

Run = Callable[[nn.Module], Tensor]  # the module on some fixed batch
Keep = Callable[[str, Callable[[], Sequence[Tensor]]], Sequence[Tensor]]  # makes the parts of a layer, or knows them


def at_once(name: str, make: Callable[[], Sequence[Tensor]]) -> Sequence[Tensor]:
    """Return the parts of a layer, made now."""
    return make()


def put(module: nn.Module, name: str, analysis: Analysis, candidate: Candidate) -> None:
    """Replace one layer of ``module``, in place, by its factors."""
    _place(module, name, candidate.way, _parts(analysis, candidate))


def _parts(analysis: Analysis, candidate: Candidate) -> list[Tensor]:
    """The factors, and behind them the bias if it moves."""
    factors = analysis.factors(candidate)
    bias = analysis.bias(factors, candidate.way)
    return factors if bias is None else [*factors, bias]


def _place(module: nn.Module, name: str, way: str, parts: Sequence[Tensor]) -> None:
    layer, count = module.get_submodule(name), 3 if way == TUCKER else 2
    replace(module, layer, factorised(layer, way, parts[:count], *parts[count:]))


def build(
    original: nn.Module,
    analyses: Mapping[str, Analysis],
    chosen: Mapping[str, Candidate],
    runs: Sequence[Run] = (),
    keep: Keep = at_once,
) -> nn.Module:
    """Return a copy of ``original`` in which the ``chosen`` layers are factors.

    With ``runs`` every layer is made anew for the inputs that it gets from the layers replaced before it, in the order
    in which they are used: its factors approximate what the original's layer does with the original's inputs. ``keep``
    may know the parts of a layer from a run that was interrupted.
    """
    module = twin(original)

    def made(name: str) -> list[Tensor]:
        analysis = analyses[name]
        if name != first and runs and not isinstance(analysis.layer, nn.Embedding):
            analysis = refreshed(original, module, name, analysis, runs)
        return _parts(analysis, chosen[name])

    first = next(iter(chosen), "")
    for name, candidate in chosen.items():
        _place(module, name, candidate.way, keep(name, partial(made, name)))
    return module


@torch.no_grad()
def refreshed(original: nn.Module, module: nn.Module, name: str, before: Analysis, runs: Sequence[Run]) -> Analysis:
    """Return the analysis of one layer for its inputs x̂ in ``module`` in place of the original's x.

    With moments about the mean where the bias takes it, the target is W + W (E[x x̂ᵀ] − X̂)(X̂ + λ)⁻¹: the map of x̂
    that is nearest to W x, drawn towards W. It is the one of ``before`` where calib no longer leads the same rows here.
    """
    inputs = fresh(before.layer)
    cross, sums = torch.zeros_like(inputs.inputs), torch.zeros_like(inputs.sums)
    for run in runs:
        x, moved = (_fed(m, name, run) for m in (original, module))
        if x.shape != moved.shape:  # experts are chosen by what the layers before return
            return before
        add_columns(inputs, moved)
        cross += (x @ moved.T).double()
        sums += x.sum(1).double()
    if not inputs.places:
        return before
    now = changed(inputs, gradients=before.known.gradients, samples=before.known.samples)
    mean, second, cross = sums / now.places, now.second, cross / now.places
    if before.centred:
        second = second - torch.outer(now.mean, now.mean)
        cross = cross - torch.outer(mean, now.mean)
    ridge = DAMPING * second.diagonal().mean().clamp(min=1e-30) * torch.eye(len(sums), dtype=torch.float64)
    shift = torch.linalg.solve(second + ridge, (cross - second).T).T
    weight = before.layer.weight.detach().double()
    target = (weight.flatten(1) + weight.flatten(1) @ shift).reshape(weight.shape)
    return Analysis(before.layer, now, before.weighting, before.spread, target=target, mean=mean)


def _fed(module: nn.Module, name: str, run: Run) -> Tensor:
    """What a layer is fed in all of its calls in one run, as columns (I, N)."""
    layer: Any = module.get_submodule(name)
    found: list[Tensor] = []
    with capture({name: layer}, lambda call: found.append(columns(layer, call.input)[0])):
        run(module)
    return found[0] if len(found) == 1 else torch.cat([layer.weight.new_zeros(layer.weight[0].numel(), 0), *found], 1)
