"""The error neighbourhood of a trained model: up to which errors do Taylor expansions of its loss hold?

For each weight and each layer's input, and for all of them together, the loss is measured for noise of one direction
and many sizes and for errors that compression makes, beside its predictions of first and second order. The gap of first
order falls as the square of the size where the model is smooth, that of second order as its cube; where a model has
kinks, as with ReLU, both fall more slowly for single samples. Source: LLC (2024), Eq. 3 to 6, Table 1, Figure 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.sensitivity.coverage import Coverage, coverage
from noworse.sensitivity.curves import FLOOR, Neighborhood, Point, curve
from noworse.sensitivity.errors import input_rounding, truncation, weight_rounding
from noworse.sensitivity.measure import Runs, Visit, mean_slopes
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


def neighborhood(
    model: nn.Module,
    loss: Loss | None,
    data: Iterable[Batch],
    *,
    weights: Sequence[str] | None = None,
    layers: Sequence[str] | None = None,
    sizes: Sequence[float] = SIZES,
    bits: Sequence[int] = BITS,
    share: float = 0.1,
    alone: bool = True,
    curvature: str = "hessian",
    dtype: torch.dtype = torch.float64,
    forward: Forward | None = None,
    distill: str = "kl",
    seed: int = 0,
) -> Neighborhood:
    """How far first and second order predict the loss of ``model`` on ``data`` under errors of weights and activations.

    ``weights`` are parameters (default: all with at least two dimensions), ``layers`` those whose input is moved
    (default: all that own such a weight and are fed floating-point numbers). Noise is uniform within ±size. Real errors
    are rounding to ``bits``, to nearest and in the direction of the lower first order, and truncation of weights to
    half of the rank where factors are no smaller. Without ``alone`` places are moved together only, in far less time
    for nets of many layers. A prediction holds while its gap is below ``share`` of it.
    ``curvature`` is "hessian" (exact) or "gauss-newton" (faster). The other arguments are those of
    ``noworse.sensitivity.measure``. BadInput for what cannot be used.
    """
    _check(sizes, bits, share, curvature)
    batches = batches_of.materialise(data, "data", 2)
    extras: dict[str, Any] = {"dtype": dtype, "forward": forward, "distill": distill}
    seen = coverage(model, loss or forward or batches_of.forward, batches[0])
    chosen = list(weights) if weights is not None else _matrices(model)
    inputs, skipped = _layers(model, seen, layers)
    errors = _errors(chosen, inputs, bits, seed)

    def first_order(tried: Mapping[str, Shift]) -> dict[str, float]:
        return mean_slopes(Runs(model, loss, batches, tried, **extras)) if tried else {}

    _direct(errors, bits, first_order)
    cases = _cases(errors, chosen, sizes, alone)
    if not cases:
        raise BadInput("the model has no weights or layers to move: expected names of weights or layers")
    runs = Runs(model, loss, batches, {str(i): case.shift for i, case in enumerate(cases)}, **extras)
    losses = []
    for visit in runs.visits():
        losses.append(visit.losses)
        for index, case in enumerate(cases):
            _visit(case, visit, str(index), curvature)
    mean = torch.cat(losses).mean().item()
    points = [(case, _points(case)) for case in cases]
    floor = FLOOR * torch.finfo(dtype).eps * max(abs(mean), 1e-3)
    return Neighborhood(
        points=tuple(point for _, each in points for point in each),
        curves=tuple(curve(each, share, floor) for case, each in points if case.error == NOISE),
        loss=mean,
        samples=sum(map(len, losses)),
        dtype=str(dtype).removeprefix("torch."),
        curvature=curvature,
        coverage=seen,
        skipped=skipped,
    )


def _check(sizes: Sequence[float], bits: Sequence[int], share: float, curvature: str) -> None:
    if curvature not in CURVATURES:
        raise BadInput(f"unknown curvature {curvature!r}: expected one of {', '.join(CURVATURES)}")
    if not sizes or not all(isinstance(size, (int, float)) and 0 < size < math.inf for size in sizes):
        raise BadInput(f"sizes are {list(sizes)!r}: expected positive numbers")
    if not all(isinstance(each, int) and 2 <= each <= 16 for each in bits):
        raise BadInput(f"bits are {list(bits)!r}: expected integers from 2 to 16")
    if not 0 < share < 1:
        raise BadInput(f"share is {share!r}: expected a number between 0 and 1")


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
    with torch.no_grad():
        case.actual.append([model.at(visit.batch, move, size)[0] - visit.losses for size in case.sizes])
    slope, tangents = model.tangents(visit.batch, move)
    case.first.append(slope)
    if curvature == "hessian":
        case.second.append(model.second(visit.batch, move) / 2)
    else:
        case.second.append(model.output_curvature(visit.batch, visit.outputs, tangents) / 2)
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
