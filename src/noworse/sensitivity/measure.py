"""What errors of weights and of layer inputs do to the loss, each taken alone: predicted in several ways, or measured.

Errors are δ of weights and ε of layer inputs h, outputs z and per-sample losses ℓ. docs/llc.md tells the kinds apart.
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
from noworse.model.device import double, seeded
from noworse.sensitivity.derivatives import along, second_along
from noworse.sensitivity.shifted import Error, Move, Shift, ShiftedModel, error_of
from noworse.task import data
from noworse.task.data import Batch
from noworse.task.distances import Distance, distance_of
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
    device: str | torch.device | None  # where model and batches are moved: where the model is


def measure(
    model: nn.Module,
    loss: Loss | None,
    batches: Iterable[Batch],
    errors: Mapping[str, Error | Shift],
    kind: str = DEFAULT,
    **settings: Unpack[Settings],
) -> dict[str, Estimate]:
    """Return how much each of ``errors`` changes the mean loss, by one of ``ESTIMATORS``.

    ``errors`` maps the name of a parameter to its error, and the name of a layer to that of its input: a tensor, or a
    function of the tensor, such as ``lambda h: h.round() - h``. For errors that come together, or several of one
    place, map any label to a mapping of that form. ``loss(model, batch)`` returns one loss per sample, (B,); without a
    loss, the distillation loss to the model's own outputs (see ``noworse.distill``) needs no labels. A layer that is
    called several times has an error in each; one never called changes nothing. BadInput for what cannot be used.
    """
    if kind not in ESTIMATORS:
        raise BadInput(f"unknown kind {kind!r} of sensitivity: expected one of {', '.join(ESTIMATORS)}")
    fisher = kind == "fisher"
    runs = Runs(model, loss, batches, errors, **settings)
    values: dict[str, list[Tensor]] = {label: [] for label in runs.shifts}
    sizes: list[float] = []
    for visit in runs.visits(FISHER_SAMPLES if fisher else None):
        samples = data.batch_size(visit.batch)
        sizes += [float(samples)] if fisher else [1.0] * samples
        for label, value in _fisher(runs, visit) if fisher else visit.values(VALUES[kind]):
            values[label].append(double(value).cpu().reshape(-1))
    counts = np.array(sizes)
    return {label: estimate(torch.cat(parts).numpy(), counts) for label, parts in values.items()}


def estimate(values: NDArray[np.float64], sizes: NDArray[np.float64]) -> Estimate:
    """Return mean over samples and standard error, from means of independent groups and their sizes."""
    total, groups = float(sizes.sum()), len(values)
    mean = float(sizes @ values) / total
    spread = math.sqrt(float((sizes * (values - mean)) @ (sizes * (values - mean)))) / total
    error = spread * math.sqrt(groups / (groups - 1)) if groups > 1 else math.nan
    return Estimate(mean, error, int(total))


@dataclass
class Visit:
    """One batch, what the unmoved model does on it, and what errors change there; values are (B,)."""

    model: ShiftedModel
    shifts: Mapping[str, Shift]
    weights: Mapping[str, Move]  # the part of each shift's errors that is the same for all batches
    batch: Batch
    losses: Tensor
    outputs: list[Tensor]
    seen: Move  # the tensors at every place that is moved: a parameter, inputs of a layer in each of its calls

    def move(self, label: str) -> Move:
        """Return the errors of one shift on this batch."""
        known, shift = self.weights[label], self.shifts[label]
        rest = {n: [error_of(n, e, x) for x in self.seen[n]] for n, e in shift.items() if n not in known}
        return {**known, **rest}

    def values(self, kind: Callable[[Visit, Move], Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Yield each label with what ``kind`` gives of its move."""
        for label in self.shifts:
            yield label, kind(self, self.move(label))

    def tangents(self, move: Move) -> tuple[Tensor, list[Tensor]]:
        """Return derivatives along a move of the losses and of the outputs."""
        return along(lambda t: self.model.at(self.batch, move, t), self.model.zero)

    def second(self, move: Move) -> Tensor:
        """Return ½ (δ, ε)ᵀ H (δ, ε) of a move, with all of the Hessian."""
        return second_along(lambda t: self.model.at(self.batch, move, t)[0], self.model.zero) / 2

    @torch.no_grad()
    def changes(self, move: Move) -> list[Tensor]:
        """Return how far the outputs move."""
        outputs = self.model.at(self.batch, move)[1]
        return [moved - before for moved, before in zip(outputs, self.outputs, strict=True)]

    def slope(self, changes: list[Tensor]) -> Tensor:
        """Return (∂ℓ/∂z)ᵀ dz of changes dz of the outputs."""
        return along(self._replayed(changes), self.model.zero)

    def curvature(self, changes: list[Tensor]) -> Tensor:
        """Return ½ dzᵀ (∂²ℓ/∂z²) dz of changes dz of the outputs, the Gauss-Newton form."""
        return second_along(self._replayed(changes), self.model.zero) / 2

    def _replayed(self, changes: list[Tensor]) -> Callable[[Tensor], Tensor]:
        pairs = list(zip(self.outputs, changes, strict=True))
        return lambda t: self.model.replay(self.batch, [z + t * dz for z, dz in pairs])

    @torch.no_grad()
    def actual(self, move: Move, size: float = 1.0) -> Tensor:
        """Return the change of the losses where everything moves ``size`` times its error."""
        return self.model.at(self.batch, move, size)[0] - self.losses


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
ESTIMATORS = (*VALUES, "fisher")


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
        dtype, device = settings.get("dtype", torch.float32), settings.get("device")
        self.model = ShiftedModel(model, loss or self._distil, dtype, device)
        for label, shift in self.shifts.items():
            self.model.check(shift, label)
        self.batches = [self.model.batch(batch) for batch in data.materialise(batches, "data", 1)]
        self.generator = seeded(self.model.zero.device, settings.get("seed", 0))
        self.distill = settings.get("distill", "kl")
        self._distils = loss is None
        self._target = self.model.zero  # the unmoved model's outputs on the batch that is visited

    @functools.cached_property
    def distance(self) -> Distance:
        """The distillation loss, with scales from all batches' outputs."""
        with torch.no_grad():
            outputs = [self.forward(self.model.model, batch) for batch in self.batches]
        return distance_of(self.distill, torch.cat([z.reshape(-1, z.shape[-1]) for z in outputs]))

    def visits(self, most: int | None = None) -> Iterator[Visit]:
        """Yield all samples batch by batch, of at most so many samples where ``most`` is given."""
        parameters = self.model.parameters
        weights = {
            label: {n: [error_of(n, e, parameters[n])] for n, e in shift.items() if n in parameters}
            for label, shift in self.shifts.items()
        }
        distance = self.distance if self._distils else None  # made here: it runs the model, which visits observe
        places = sorted({name for shift in self.shifts.values() for name in shift})
        for index, whole in enumerate(self.batches):
            size = data.batch_size(whole)
            for batch in data.first_samples([whole], size, most) if most else [whole]:
                if distance is not None:
                    with torch.no_grad():
                        self._target = self.forward(self.model.model, batch)
                seen = self.model.observe(batch, places, f"the model in batch {index}")
                yield Visit(self.model, self.shifts, weights, batch, *seen)

    def _distil(self, model: nn.Module, batch: Batch) -> Tensor:
        return self.distance(self.forward(model, batch), self._target)


def mean_slopes(runs: Runs) -> dict[str, float]:
    """Return the first order of every shift, the mean over samples, from one backward pass for each batch."""
    totals = dict.fromkeys(runs.shifts, 0.0)
    samples = 0
    for visit in runs.visits():
        samples += data.batch_size(visit.batch)
        for label, products in _products(visit, lambda model, batch: runs.model.loss(model, batch).sum()):
            totals[label] += sum(float(product.sum()) for product in products)
    return {label: total / samples for label, total in totals.items()}


def _fisher(runs: Runs, visit: Visit) -> Iterator[tuple[str, Tensor]]:
    """½ Σ F e² of every shift, the mean over the batch's samples, from one backward pass of a sampled probe."""
    probe = runs.distance.probe
    for label, products in _products(visit, lambda model, batch: probe(runs.forward(model, batch), runs.generator)):
        terms = (product.square().sum() for product in products)
        yield label, sum(terms, visit.model.zero) / (2 * data.batch_size(visit.batch))


def _products(visit: Visit, scalar: Loss) -> Iterator[tuple[str, list[Tensor]]]:
    """The errors of every shift, each multiplied with the gradient of a scalar function where it moves the model."""
    still = {name: [torch.zeros_like(x, requires_grad=True) for x in tensors] for name, tensors in visit.seen.items()}
    leaves = [zeros for each in still.values() for zeros in each]  # nothing moves, but gradients arrive here
    result = visit.model.at(visit.batch, still, 1.0, scalar)[0]
    given = iter(torch.autograd.grad(result, leaves, allow_unused=True, materialize_grads=True) if leaves else ())
    slopes = {name: [next(given) for _ in each] for name, each in still.items()}
    for label in visit.shifts:
        pairs = (zip(slopes[name], errors, strict=True) for name, errors in visit.move(label).items())
        yield label, [slope * error for pair in pairs for slope, error in pair]
