"""The error neighbourhood of a trained model: up to which errors do Taylor expansions of its loss hold?

For each weight and each layer's input, and for all of them together, the loss is measured for noise of one direction
and many sizes and for errors that compression makes, beside its predictions of first and second order. The gap of first
order falls as the square of the size where the model is smooth, that of second order as its cube; where a model has
kinks, as with ReLU, both fall more slowly for single samples. Source: LLC (2024), Eq. 3 to 6, Table 1, Figure 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.sensitivity.coverage import Coverage, coverage
from noworse.sensitivity.curves import FLOOR, Neighborhood, Point, curve
from noworse.sensitivity.errors import input_rounding, truncation, weight_rounding
from noworse.sensitivity.measure import Runs, Settings, Visit, mean_slopes
from noworse.sensitivity.shifted import Error, Shift
from noworse.task import data as batches_of
from noworse.task.data import Batch
from noworse.task.task import Forward, Loss

SIZES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
BITS = (2, 4, 8)
CURVATURES = ("hessian", "gauss-newton")
NOISE, ALL = "noise", "all"
WEIGHTS, ACTIVATIONS = "weights", "activations"


@dataclass
class _Case:
    """One error of one place, or of all, and what was found on the batches so far."""

    place: str
    where: str
    error: str
    shift: Shift
    sizes: Sequence[float]
    actual: list[list[Tensor]] = field(default_factory=list)  # [batch][size], (B,) each
    first: list[Tensor] = field(default_factory=list)  # [batch], at size 1
    second: list[Tensor] = field(default_factory=list)  # the second-order term alone
    error_square: float = 0.0  # sums over elements
    tensor_square: float = 0.0
    elements: int = 0


@dataclass(frozen=True)
class Plan:
    """What is moved, how far, and how that is predicted; BadInput for what cannot be used."""

    weights: Sequence[str] | None = None  # parameters; None: all of at least two dimensions
    layers: Sequence[str] | None = None  # whose inputs are moved; None: those that own such a weight and are fed reals
    sizes: Sequence[float] = SIZES  # of uniform noise within ±size
    bits: Sequence[int] = BITS  # of rounding, to nearest and in the direction of the lower first order
    share: float = 0.1  # of a prediction: it holds while its gap is below
    alone: bool = True  # each place for itself, too; without, all together only: far less time for nets of many layers
    curvature: str = "hessian"  # exact; or "gauss-newton": faster
    dtype: torch.dtype = torch.float64
    forward: Forward | None = None  # this and the next as in ``noworse.sensitivity.measure``
    distill: str = "kl"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.curvature not in CURVATURES:
            raise BadInput(f"unknown curvature {self.curvature!r}: expected one of {', '.join(CURVATURES)}")
        if not self.sizes or not all(isinstance(size, (int, float)) and 0 < size < math.inf for size in self.sizes):
            raise BadInput(f"sizes are {list(self.sizes)!r}: expected positive numbers")
        if not all(isinstance(each, int) and 2 <= each <= 16 for each in self.bits):
            raise BadInput(f"bits are {list(self.bits)!r}: expected integers from 2 to 16")
        if not 0 < self.share < 1:
            raise BadInput(f"share is {self.share!r}: expected a number between 0 and 1")


def neighborhood(
    model: nn.Module, loss: Loss | None, data: Iterable[Batch], plan: Plan | None = None, **fields: Any
) -> Neighborhood:
    """How far first and second order predict the loss of ``model`` on ``data`` under errors of weights and activations.

    Errors are noise, rounding, and truncation of weights to half of the rank where factors are no smaller; ``fields``
    are those of ``Plan``, which tells the rest. BadInput for what cannot be used.
    """
    plan = replace(plan or Plan(), **fields)
    batches = batches_of.materialise(data, "data", 2)
    settings: Settings = {"dtype": plan.dtype, "forward": plan.forward, "distill": plan.distill}
    seen = coverage(model, loss or plan.forward or batches_of.forward, batches[0])
    weights = list(plan.weights) if plan.weights is not None else _matrices(model)
    inputs, skipped = _layers(model, seen, plan.layers)
    errors = _errors(weights, inputs, plan.bits, plan.seed)

    def first_order(tried: Mapping[str, Shift]) -> dict[str, float]:
        return mean_slopes(Runs(model, loss, batches, tried, **settings)) if tried else {}

    _direct(errors, plan.bits, first_order)
    cases = _cases(errors, weights, plan.sizes, plan.alone)
    if not cases:
        raise BadInput("the model has no weights or layers to move: expected names of weights or layers")
    runs = Runs(model, loss, batches, {str(i): case.shift for i, case in enumerate(cases)}, **settings)
    losses = []
    for visit in runs.visits():
        losses.append(visit.losses)
        for index, case in enumerate(cases):
            _visit(case, visit, str(index), plan.curvature)
    mean = torch.cat(losses).mean().item()
    points = [(case, _points(case)) for case in cases]
    floor = FLOOR * torch.finfo(plan.dtype).eps * max(abs(mean), 1e-3)
    curves = tuple(curve(each, plan.share, floor) for case, each in points if case.error == NOISE)
    return Neighborhood(
        tuple(point for _, each in points for point in each), curves, mean, sum(map(len, losses)),
        str(plan.dtype).removeprefix("torch."), plan.curvature, seen, skipped,
    )  # fmt: skip


def _matrices(model: nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.ndim > 1 and parameter.numel()]


def _layers(model: nn.Module, seen: Coverage, given: Sequence[str] | None) -> tuple[list[str], dict[str, str]]:
    """Layers whose inputs are moved, and those that are left out, with the reason."""
    owners = [
        name
        for name, module in model.named_modules()
        if name in seen.calls and any(p.ndim > 1 for p in module.parameters(recurse=False))
    ]
    skipped = {}
    for name in owners if given is None else given:
        if name in seen.integers:
            skipped[name] = "fed no floating-point tensor"
        elif seen.calls.get(name) == 0:
            skipped[name] = "never called"
    return [name for name in (owners if given is None else given) if name not in skipped], skipped


Errors = dict[str, dict[str, Error]]  # name of the error -> place -> error


def _errors(weights: Sequence[str], layers: Sequence[str], bits: Sequence[int], seed: int) -> Errors:
    """Errors of all places but directed ones."""
    places = [*weights, *layers]
    found: Errors = {NOISE: {name: _noise(seed + index) for index, name in enumerate(places)}}
    for each in bits:
        found[f"{each} bits"] = {n: weight_rounding(each) if n in weights else input_rounding(each) for n in places}
    found["half rank"] = {name: truncation(0.5) for name in weights}
    return found


def _direct(
    errors: Errors, bits: Sequence[int], first_order: Callable[[Mapping[str, Shift]], dict[str, float]]
) -> None:
    """Add rounding up or down, whichever has the lower first-order term at each place (LLC, part 2, as measured)."""
    inputs = errors[NOISE].keys() - errors["half rank"].keys()
    for each in bits:
        tried: dict[str, Shift] = {}
        for name in errors[NOISE]:
            make = input_rounding if name in inputs else weight_rounding
            tried |= {f"{how} {name}": {name: make(each, how)} for how in ("up", "down")}
        slopes = first_order(tried)
        errors[f"{each} bits directed"] = {
            name: tried[min((f"up {name}", f"down {name}"), key=slopes.__getitem__)][name] for name in errors[NOISE]
        }


def _noise(seed: int) -> Callable[[Tensor], Tensor]:
    """Uniform noise in ±1, the same for a tensor whenever it is moved and whatever else is measured."""

    def noise(tensor: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return 2 * torch.rand(tensor.shape, generator=generator, dtype=torch.float64) - 1

    return noise


def _cases(errors: Errors, weights: Sequence[str], sizes: Sequence[float], alone: bool) -> list[_Case]:
    """Every error at every place ``alone``, if asked for, then at all weights and at all layers together."""
    cases = []
    for error, places in errors.items():
        scales = sizes if error == NOISE else (1.0,)
        for where in (WEIGHTS, ACTIVATIONS):
            here = {name: each for name, each in places.items() if (name in weights) == (where == WEIGHTS)}
            if alone:
                cases += [_Case(name, where, error, {name: each}, scales) for name, each in here.items()]
            if here:
                cases.append(_Case(ALL, where, error, here, scales))
    return cases


def _visit(case: _Case, visit: Visit, label: str, curvature: str) -> None:
    """Add what one batch tells of a case."""
    model, move = visit.runs.model, visit.move(label)
    case.actual.append([visit.actual(move, size) for size in case.sizes])
    slope, tangents = visit.tangents(move)
    case.first.append(slope)
    case.second.append(visit.second(move) if curvature == "hessian" else visit.curvature(tangents))
    tensors: list[Tensor] = [model.parameters[name] for name in move.weights]
    tensors += [inputs for name in move.inputs for inputs in visit.seen[name]]
    case.error_square += sum(error.double().square().sum().item() for error in move.tensors())
    case.tensor_square += sum(tensor.double().square().sum().item() for tensor in tensors)
    case.elements += sum(tensor.numel() for tensor in tensors)


def _points(case: _Case) -> list[Point]:
    """One point for each size."""
    first, second = torch.cat(case.first).double(), torch.cat(case.second).double()
    root = math.sqrt(case.error_square / max(case.elements, 1))
    relative = math.sqrt(case.error_square / case.tensor_square) if case.tensor_square else math.inf
    found = []
    for index, size in enumerate(case.sizes):
        actual = torch.cat([batch[index] for batch in case.actual]).double()
        slope, both = size * first, size * first + size**2 * second
        found.append(
            Point(
                place=case.place,
                where=case.where,
                error=case.error,
                size=size if case.error == NOISE else root,
                relative=size * relative,
                actual=actual.mean().item(),
                first=slope.mean().item(),
                second=both.mean().item(),
                standard_error=(actual.std() / math.sqrt(len(actual))).item(),
                gap_first=(actual - slope).abs().mean().item(),
                gap_second=(actual - both).abs().mean().item(),
                scale_first=slope.abs().mean().item(),
                scale_second=both.abs().mean().item(),
            )
        )
    return found
