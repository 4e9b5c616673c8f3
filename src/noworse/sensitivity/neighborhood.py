"""The error neighbourhood of a trained model: up to which errors do Taylor expansions of its loss hold?

For each weight and each layer's input, and for all of them together, the loss is measured for noise of one direction
and many sizes and for errors that compression makes, beside its predictions of first and second order (docs/llc.md).
Source: LLC (2024), Eq. 3 to 6, Table 1, Figure 1.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.model.device import CPU, double, home, placed, seeded
from noworse.sensitivity.curves import (
    ACTIVATIONS,
    ALL,
    FLOOR,
    NOISE,
    WEIGHTS,
    Coverage,
    Neighborhood,
    Point,
    coverage,
    noise_curve,
)
from noworse.sensitivity.measure import Runs, Visit, mean_slopes
from noworse.sensitivity.shifted import Error, Shift, input_rounding, truncation, weight_rounding
from noworse.task import data as batches_of
from noworse.task.data import Batch
from noworse.task.task import Forward, Loss

SIZES = (1e-1, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
BITS = (2, 4, 8)
CURVATURES = ("hessian", "gauss-newton")


@dataclass
class _Case:
    """One error of one place, or of all, and what the batches so far tell of it."""

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
class NeighborhoodSettings:
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
    device: str | torch.device | None = None  # where model and batches are moved; None: where the model is

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
    model: nn.Module,
    loss: Loss | None,
    data: Iterable[Batch],
    settings: NeighborhoodSettings | None = None,
    **fields: Any,
) -> Neighborhood:
    """Return how well first and second order predict the loss of ``model`` on ``data`` when weights and inputs move.

    Errors are noise, rounding, and truncation of weights to half of the rank where factors are no smaller; ``fields``
    are those of ``NeighborhoodSettings``, which tells the rest. BadInput for what cannot be used.
    """
    settings = replace(settings or NeighborhoodSettings(), **fields)
    batches = batches_of.materialise(data, "data", 2)

    model = placed(model, settings.device)
    common: dict[str, Any] = {name: getattr(settings, name) for name in ("dtype", "forward", "distill")}

    def run(errors: Mapping[str, Shift]) -> Runs:
        return Runs(model, loss, batches, errors, **common)

    seen = coverage(model, loss or settings.forward or batches_of.forward, batches_of.copied(batches[0], home(model)))
    matrices = [name for name, parameter in model.named_parameters() if parameter.ndim > 1 and parameter.numel()]
    weights = matrices if settings.weights is None else list(settings.weights)
    inputs, skipped = _layers(model, seen, settings.layers)
    errors = _errors(settings, weights, inputs, lambda tried: mean_slopes(run(tried)))
    cases = _cases(errors, weights, settings.sizes, settings.alone)
    if not cases:
        raise BadInput("the model has no weights or layers to move: expected names of weights or layers")
    losses = []
    for visit in run({str(i): case.shift for i, case in enumerate(cases)}).visits():
        losses.append(visit.losses)
        for index, case in enumerate(cases):
            _add(case, visit, str(index), settings.curvature)
    mean = torch.cat(losses).mean().item()
    points = [(case, _points(case)) for case in cases]
    floor = FLOOR * torch.finfo(settings.dtype).eps * max(abs(mean), 1e-3)
    curves = tuple(noise_curve(each, settings.share, floor) for case, each in points if case.error == NOISE)
    return Neighborhood(
        tuple(point for _, each in points for point in each), curves, mean, sum(map(len, losses)),
        str(settings.dtype).removeprefix("torch."), settings.curvature, seen, skipped,
    )  # fmt: skip


def _layers(model: nn.Module, seen: Coverage, given: Sequence[str] | None) -> tuple[list[str], dict[str, str]]:
    """Layers whose inputs are moved, and those that are left out, with the reason."""
    if given is None:
        layers = [(name, module) for name, module in model.named_modules() if name in seen.calls]
        given = [name for name, layer in layers if any(p.ndim > 1 for p in layer.parameters(recurse=False))]
    never = {name: "never called" for name in given if seen.calls.get(name) == 0}
    skipped = never | {name: "fed no floating-point tensor" for name in given if name in seen.integers}
    return [name for name in given if name not in skipped], skipped


Errors = dict[str, dict[str, Error]]  # name of the error -> place -> error


def _errors(
    settings: NeighborhoodSettings,
    weights: Sequence[str],
    layers: Sequence[str],
    slopes: Callable[[Mapping[str, Shift]], dict[str, float]],
) -> Errors:
    """Errors of all places; ``slopes`` gives first-order terms, which direct rounding (LLC, part 2, as measured)."""
    places = [*weights, *layers]
    rounding = {name: weight_rounding if name in weights else input_rounding for name in places}
    errors: Errors = {NOISE: {name: partial(_noise, seed=settings.seed + index) for index, name in enumerate(places)}}
    for bits in settings.bits:
        errors[f"{bits} bits"] = {name: make(bits) for name, make in rounding.items()}
    errors["half rank"] = {name: truncation(0.5) for name in weights}
    for bits in settings.bits if places else ():
        ways = {name: {f"{way} {name}": make(bits, way) for way in ("up", "down")} for name, make in rounding.items()}
        lower = slopes({label: {name: error} for name, each in ways.items() for label, error in each.items()})
        errors[f"{bits} bits directed"] = {name: each[min(each, key=lower.__getitem__)] for name, each in ways.items()}
    return errors


def _noise(tensor: Tensor, seed: int) -> Tensor:
    """Uniform noise in ±1, the same for a tensor whenever it is moved, on whatever device, and whatever else is."""
    return 2 * torch.rand(tensor.shape, generator=seeded(CPU, seed), dtype=torch.float64, device="cpu") - 1


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


def _add(case: _Case, visit: Visit, label: str, curvature: str) -> None:
    """Add what one batch tells of a case."""
    move = visit.move(label)
    case.actual.append([visit.actual(move, size) for size in case.sizes])
    slope, tangents = visit.tangents(move)
    case.first.append(slope)
    case.second.append(visit.second(move) if curvature == "hessian" else visit.curvature(tangents))
    pairs = [pair for name, errors in move.items() for pair in zip(errors, visit.seen[name], strict=True)]
    case.error_square += sum(double(error).square().sum().item() for error, _ in pairs)
    case.tensor_square += sum(double(tensor).square().sum().item() for _, tensor in pairs)
    case.elements += sum(tensor.numel() for _, tensor in pairs)


def _points(case: _Case) -> list[Point]:
    """One point for each size."""
    first, second = double(torch.cat(case.first)), double(torch.cat(case.second))
    root = math.sqrt(case.error_square / max(case.elements, 1))
    relative = math.sqrt(case.error_square / case.tensor_square) if case.tensor_square else math.inf
    points = []
    for index, size in enumerate(case.sizes):
        actual = double(torch.cat([batch[index] for batch in case.actual]))
        one, two = size * first, size * first + size**2 * second  # predictions
        points.append(
            Point(
                case.place, case.where, case.error, size if case.error == NOISE else root, size * relative,
                actual=_mean(actual), first=_mean(one), second=_mean(two),
                standard_error=(actual.std() / math.sqrt(len(actual))).item(),
                gap_first=_mean((actual - one).abs()), gap_second=_mean((actual - two).abs()),
                scale_first=_mean(one.abs()), scale_second=_mean(two.abs()),
            )
        )  # fmt: skip
    return points


def _mean(values: Tensor) -> float:
    return values.mean().item()
