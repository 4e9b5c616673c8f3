"""What errors of weights and of layer inputs do to the loss, each taken alone: predicted in several ways, or measured.

Kinds, with errors δ of weights and ε of layer inputs h, outputs z and per-sample losses ℓ:

``"first-order"``   ⟨∂ℓ/∂w, δ⟩ + ⟨∂ℓ/∂h, ε⟩                                   (LLC, Eq. 3)
``"quadratic"``     ½ dzᵀ (∂²ℓ/∂z²) dz, where dz is the derivative of z along the error (Gauss-Newton)
``"gauss-newton"``  their sum
``"divergence"``    the quadratic term with the outputs' actual change dz for their derivative, at one forward pass
``"secant"``        Gauss-Newton with that change: divergence and (∂ℓ/∂z)ᵀ dz
``"second-order"``  first order and ½ (δ, ε)ᵀ H (δ, ε) with the exact Hessian
``"fisher"``        ½ Σ F e² over elements e of the errors, F = E[(∂ℓ/∂w)²] for labels that the model draws itself
``"loss"``          the loss with the error minus the loss without: the truth, at one forward pass

All but "fisher" are sums over all elements, with what lies between them, and are known for every sample.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.sensitivity.shifted import Error, Move, Shift, ShiftedModel
from noworse.task import data
from noworse.task.data import Batch
from noworse.task.distances import Distiller, distiller_of
from noworse.task.task import Forward, Loss

if TYPE_CHECKING:
    from typing_extensions import Unpack

DEFAULT = "divergence"
FISHER_SAMPLES = 16  # whose gradients are summed before they are squared: sampled labels cancel between them


@dataclass(frozen=True)
class Estimate:
    """A mean over samples, in the loss's unit, and its standard error."""

    mean: float
    standard_error: float  # NaN for a single sample
    samples: int


class Settings(TypedDict, total=False):
    """How models are run: in which type, by which function in place of ``model(*inputs)``, how outputs are compared."""

    dtype: torch.dtype  # float32
    forward: Forward | None
    distill: str  # "kl"
    seed: int  # 0; of sampled labels


def measure(
    model: nn.Module,
    loss: Loss | None,
    batches: Iterable[Batch],
    errors: Mapping[str, Error | Shift],
    kind: str = DEFAULT,
    **settings: Unpack[Settings],
) -> dict[str, Estimate]:
    """How much each of ``errors`` changes the mean loss, by one of ``KINDS``.

    ``errors`` maps the name of a parameter to its error, and the name of a layer to that of its input: a tensor, or a
    function of the tensor, such as ``lambda h: h.round() - h``. For errors that come together, or several of one
    place, map any label to a mapping of that form. ``loss(model, batch)`` returns one loss per sample, (B,); without a
    loss, the distillation loss to the model's own outputs (see ``noworse.distill``) needs no labels. A layer that is
    called several times has an error in each; one never called changes nothing. BadInput for what cannot be used.
    """
    if kind not in KINDS:
        raise BadInput(f"unknown kind {kind!r} of sensitivity: expected one of {', '.join(KINDS)}")
    runs = Runs(model, loss, batches, errors, **settings)
    values: dict[str, list[Tensor]] = {label: [] for label in runs.shifts}
    sizes: list[float] = []
    for visit in runs.visits(FISHER_SAMPLES if kind == "fisher" else None):
        samples = data.batch_size(visit.batch)
        sizes += [float(samples)] if kind == "fisher" else [1.0] * samples
        found: Iterable[tuple[str, Tensor]]
        found = _fisher(visit) if kind == "fisher" else ((n, VALUES[kind](visit, visit.move(n))) for n in runs.shifts)
        for label, value in found:
            values[label].append(value.double().cpu().reshape(-1))
    counts = np.array(sizes)
    return {label: estimate(torch.cat(parts).numpy(), counts) for label, parts in values.items()}


def estimate(values: NDArray[np.float64], sizes: NDArray[np.float64]) -> Estimate:
    """Mean over samples and its standard error, from means of independent groups and their sizes."""
    total, groups = float(sizes.sum()), len(values)
    mean = float(sizes @ values) / total
    spread = math.sqrt(float((sizes * (values - mean)) @ (sizes * (values - mean)))) / total
    error = spread * math.sqrt(groups / (groups - 1)) if groups > 1 else math.nan
    return Estimate(mean, error, int(total))


@dataclass
class Visit:
    """One batch, and what the unmoved model does on it."""

    runs: Runs
    batch: Batch
    losses: Tensor  # (B,)
    outputs: list[Tensor]
    seen: dict[str, list[Tensor]]  # inputs of every layer that is moved, in each of its calls
    weights: dict[str, dict[str, Tensor]]  # errors of weights, by label

    def move(self, label: str) -> Move:
        """The errors of one shift on this batch."""
        return Move(self.weights[label], self.runs.model.input_move(self.runs.shifts[label], self.seen))

    def tangents(self, move: Move) -> tuple[Tensor, list[Tensor]]:
        """Derivatives along a move of the losses (B,) and of the outputs."""
        return self.runs.model.tangents(self.batch, move)

    def changes(self, move: Move) -> list[Tensor]:
        """How far the outputs move."""
        with torch.no_grad():
            outputs = self.runs.model.at(self.batch, move)[1]
        return [moved - before for moved, before in zip(outputs, self.outputs, strict=True)]

    def slope(self, changes: list[Tensor]) -> Tensor:
        """(∂ℓ/∂z)ᵀ dz of changes dz of the outputs, (B,)."""
        return self.runs.model.output_slope(self.batch, self.outputs, changes)

    def curvature(self, changes: list[Tensor]) -> Tensor:
        """½ dzᵀ (∂²ℓ/∂z²) dz of changes dz of the outputs, (B,)."""
        return self.runs.model.output_curvature(self.batch, self.outputs, changes) / 2

    def second(self, move: Move) -> Tensor:
        """½ (δ, ε)ᵀ H (δ, ε) of a move, (B,)."""
        return self.runs.model.second(self.batch, move) / 2

    @torch.no_grad()
    def actual(self, move: Move, size: float = 1.0) -> Tensor:
        """The change of the losses (B,) where everything moves so many times its error."""
        return self.runs.model.at(self.batch, move, size)[0] - self.losses


def _gauss_newton(visit: Visit, move: Move) -> Tensor:
    slope, outputs = visit.tangents(move)
    return slope + visit.curvature(outputs)


def _secant(visit: Visit, move: Move) -> Tensor:
    changes = visit.changes(move)
    return visit.slope(changes) + visit.curvature(changes)


VALUES: dict[str, Callable[[Visit, Move], Tensor]] = {
    "first-order": lambda visit, move: visit.tangents(move)[0],
    "quadratic": lambda visit, move: visit.curvature(visit.tangents(move)[1]),
    "gauss-newton": _gauss_newton,
    "divergence": lambda visit, move: visit.curvature(visit.changes(move)),
    "secant": _secant,
    "second-order": lambda visit, move: visit.tangents(move)[0] + visit.second(move),
    "loss": Visit.actual,
}
KINDS = (*VALUES, "fisher")


class Runs:
    """A shifted model with checked batches and errors; without a loss it distils the model's own outputs."""

    def __init__(
        self,
        model: nn.Module,
        loss: Loss | None,
        batches: Iterable[Batch],
        errors: Mapping[str, Error | Shift],
        **settings: Unpack[Settings],
    ) -> None:
        unknown = settings.keys() - Settings.__annotations__.keys()
        if unknown:
            raise TypeError(f"unknown {', '.join(sorted(unknown))}: expected {', '.join(Settings.__annotations__)}")
        if not isinstance(errors, Mapping) or not errors:
            raise BadInput(f"errors is {type(errors).__name__}: expected a mapping from names to errors, not empty")
        self.shifts = {n: dict(e) if isinstance(e, Mapping) else {n: e} for n, e in errors.items()}
        self.forward = settings.get("forward") or data.forward
        self.model = ShiftedModel(model, loss or self._distil, settings.get("dtype", torch.float32))
        for label, shift in self.shifts.items():
            self.model.check(shift, label)
        self.batches = [self.model.batch(batch) for batch in data.materialise(batches, "data", 1)]
        self.generator = torch.Generator().manual_seed(settings.get("seed", 0))
        self.distill = settings.get("distill", "kl")
        self._target: Tensor | None = None
        self._distils = loss is None

    @functools.cached_property
    def distiller(self) -> Distiller:
        """The distillation loss, with scales from all batches' outputs."""
        with torch.no_grad():
            outputs = [self.forward(self.model.model, batch) for batch in self.batches]
        return distiller_of(self.distill, torch.cat([z.reshape(-1, z.shape[-1]) for z in outputs]))

    def visits(self, most: int | None = None) -> Iterator[Visit]:
        """Batch by batch, of at most so many samples."""
        weights = {label: self.model.weight_move(shift) for label, shift in self.shifts.items()}
        places = {name for shift in self.shifts.values() for name in shift}
        layers = sorted(places - self.model.parameters.keys())
        distiller = self.distiller if self._distils else None
        for index, whole in enumerate(self.batches):
            size = data.batch_size(whole)
            step = most or size
            for begin in range(0, size, step):
                batch = whole if step >= size else data.select(whole, slice(begin, begin + step))
                if distiller is not None:
                    with torch.no_grad():
                        self._target = self.forward(self.model.model, batch)
                losses, outputs, seen = self.model.observe(batch, layers, f"the model in batch {index}")
                yield Visit(self, batch, losses, outputs, seen, weights)

    def _distil(self, model: nn.Module, batch: Batch) -> Tensor:
        assert self._target is not None
        return self.distiller(self.forward(model, batch), self._target)


def mean_slopes(runs: Runs) -> dict[str, float]:
    """First order of every shift, the mean over samples, from one backward pass for each batch."""
    totals = dict.fromkeys(runs.shifts, 0.0)
    samples = 0
    for visit in runs.visits():
        samples += data.batch_size(visit.batch)
        for label, pairs in _gradients(visit, lambda model, batch: runs.model.loss(model, batch).sum()):
            totals[label] += sum(float((gradient * error).sum()) for gradient, error in pairs)
    return {label: total / samples for label, total in totals.items()}


def _fisher(visit: Visit) -> Iterator[tuple[str, Tensor]]:
    """½ Σ F e² of every shift, the mean over the batch's samples, from one backward pass of a sampled probe."""
    runs, distiller = visit.runs, visit.runs.distiller
    probed = _gradients(visit, lambda model, batch: distiller.probe(runs.forward(model, batch), runs.generator))
    for label, pairs in probed:
        terms = [(gradient * error).square().sum() for gradient, error in pairs]
        yield label, sum(terms, torch.zeros(())) / (2 * data.batch_size(visit.batch))


def _gradients(visit: Visit, scalar: Loss) -> Iterator[tuple[str, list[tuple[Tensor, Tensor]]]]:
    """What a scalar function's gradients are where each shift has its errors, and these errors."""
    model = visit.runs.model
    moved = {name for weights in visit.weights.values() for name in weights}
    zero = Move(  # nothing moves, but gradients arrive here
        {name: torch.zeros_like(model.parameters[name]) for name in sorted(moved)},
        {name: [torch.zeros_like(inputs) for inputs in calls] for name, calls in visit.seen.items()},
    )
    leaves = [tensor.requires_grad_() for tensor in zero.tensors()]
    result = model.at(visit.batch, zero, 1.0, scalar)[0]
    found = torch.autograd.grad(result, leaves, allow_unused=True, materialize_grads=True) if leaves else ()
    gradients = {id(leaf): gradient for leaf, gradient in zip(leaves, found, strict=True)}
    for label in visit.runs.shifts:
        move = visit.move(label)
        pairs = [(zero.weights[name], error) for name, error in move.weights.items()]
        for name, calls in move.inputs.items():
            pairs += zip(zero.inputs[name], calls, strict=True)
        yield label, [(gradients[id(leaf)], error) for leaf, error in pairs]
