"""Which layers of a model can be taken apart, and modules in which chosen ones are.

Layers are replaced one after the other, each made for what the ones before feed it.
"""

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import replace as changed
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from noworse.model import attention, recurrent
from noworse.model.attention import Attention
from noworse.model.device import double
from noworse.model.factorised import DENSE, TUCKER, Factorised, factorised, replace, replaceable
from noworse.model.recurrent import Recurrent
from noworse.model.tensors import twin
from noworse.propose.ranks.candidates import Analysis, Candidate
from noworse.propose.ranks.spectrum import DAMPING, identity
from noworse.run.resume import NOWHERE, Work
from noworse.survey.capture import capture, columns
from noworse.survey.curvature import Decomposable, add_columns, fresh

Filter = Callable[[str, nn.Module], bool]
Run = Callable[[nn.Module], Tensor]  # the module on some fixed batch


@dataclass(frozen=True)
class Sites:
    """Layers by name, and the reasons why others of these kinds are left alone."""

    layers: dict[str, Decomposable]
    alone: dict[str, str] = field(default_factory=dict)


def open_fused(module: nn.Module, names: Collection[str] | None = None) -> None:
    """Give attention and recurrent layers, in place, linear layers that can be replaced one by one.

    With ``names`` of such linear layers only those that hold any of them are opened.
    """
    for name, layer in list(module.named_modules()):
        if names is None or any(other.startswith(f"{name}.") for other in names):
            if attention.openable(layer):
                replace(module, layer, Attention(layer))
            elif recurrent.openable(layer):
                replace(module, layer, Recurrent(layer))


def find_sites(module: nn.Module, only: Filter | None = None) -> Sites:
    """Return the layers that ``only`` accepts (all without it) and whose weight can be replaced by factors."""
    uses: Counter[int] = Counter()
    for layer in module.modules():
        uses.update(id(parameter) for parameter in layer._parameters.values() if parameter is not None)
    inside = {id(part) for layer in module.modules() for part in _private_parts(layer)}
    found = Sites({})
    for name, layer in module.named_modules():
        if isinstance(layer, nn.MultiheadAttention) and not attention.openable(layer):
            found.alone[name] = "attention with biases of keys and values, zeros added, or a forward of its own"
        if isinstance(layer, (nn.RNNBase, nn.RNNCellBase)) and not recurrent.openable(layer):
            found.alone[name] = "recurrent, with a forward of its own or weights that are no parameters"
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
    work: Work = NOWHERE,
    label: str = "",
) -> nn.Module:
    """Return a copy of ``original`` in which the ``chosen`` layers are factors.

    With ``runs`` every layer is made anew for the inputs that it gets from the layers replaced before it, in the order
    in which they are used: its factors approximate what the original's layer does with the original's inputs. ``work``
    keeps the parts of each layer under a ``label``, for a run that is interrupted.
    """
    module = twin(original)

    def made(name: str) -> list[Tensor]:
        analysis = analyses[name]
        if name != first and runs and not isinstance(analysis.layer, nn.Embedding):
            analysis = refreshed(original, module, name, analysis, runs)
        return _parts(analysis, chosen[name])

    first = next(iter(chosen), "")
    for name, candidate in chosen.items():
        _place(module, name, candidate.way, work.keep(f"{name}, {label}", partial(made, name)))
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
        cross += double(x @ moved.T)
        sums += double(x.sum(1))
    if not inputs.places:
        return before
    now = changed(inputs, gradients=before.known.gradients, samples=before.known.samples)
    mean, second, cross = sums / now.places, now.second, cross / now.places
    if before.centred:
        second = second - torch.outer(now.mean, now.mean)
        cross = cross - torch.outer(mean, now.mean)
    ridge = DAMPING * second.diagonal().mean().clamp(min=1e-30) * identity(second)
    shift = torch.linalg.solve(second + ridge, (cross - second).T).T
    weight = double(before.layer.weight.detach())
    target = (weight.flatten(1) + weight.flatten(1) @ shift).reshape(weight.shape)
    return Analysis(before.layer, now, before.weighting, before.spread, target=target, mean=mean)


def _fed(module: nn.Module, name: str, run: Run) -> Tensor:
    """What a layer is fed in all of its calls in one run, as columns (I, N)."""
    layer: Any = module.get_submodule(name)
    found: list[Tensor] = []
    with capture({name: layer}, lambda call: found.append(columns(layer, call.input)[0])):
        run(module)
    return found[0] if len(found) == 1 else torch.cat([layer.weight.new_zeros(layer.weight[0].numel(), 0), *found], 1)
