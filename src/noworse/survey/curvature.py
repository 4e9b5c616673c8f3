"""Curvature of the loss in weights: its mean diagonal for each tensor, and a Kronecker product for each layer.

Both are Gauss-Newton (Fisher) matrices, of gradients of sampled probes: no labels. For a layer y = W x the expected
loss of an error δ of W is about ½ tr(G δ X δᵀ) with X = E[x xᵀ] over all places where the weights are used and
G = Σ_places E[g gᵀ] of gradients g at the outputs. Source: Martens and Grosse, K-FAC (ICML 2015); Grosse and Martens
(ICML 2016) for convolutions.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from noworse.model.device import double, seeded, wide
from noworse.model.hooks import floating
from noworse.run.processes import ALONE, World
from noworse.survey.capture import NO_ROWS, Call, Measured, Unseen, capture, columns, gradients, rows
from noworse.task.distances import Distance

T = TypeVar("T")
SMALLEST, LARGEST = 1e-12, 1e12  # of numbers whose sums of squares float32 holds to its precision


Probes = Iterable[tuple[Tensor, int] | None]  # of batch after batch; None is one that another rank looks at


def _sampled(
    parameters: Mapping[str, nn.Parameter],
    outputs: Probes,
    distance: Distance,
    seed: int,
    see: Callable[[int, str, Tensor], None],
) -> list[int]:
    """Call ``see`` with each batch's number and the name and gradient of each parameter; return the batches' samples.

    What is drawn for a batch depends on its number alone.
    """
    samples: list[int] = []
    number = 0
    leaves = list(parameters.values())
    with gradients(parameters, lambda name, gradient: see(number, name, gradient)):
        for number, batch in enumerate(outputs):
            samples.append(batch[1] if batch else 0)
            probe = distance.probe(batch[0], seeded(batch[0].device, seed + number)) if batch else None
            if probe is not None and probe.requires_grad:  # the outputs are not detached
                probe.backward(inputs=leaves)  # type: ignore[no-untyped-call]
    return samples


def sums_of_squares(
    parameters: Mapping[str, nn.Parameter],
    outputs: Iterable[tuple[Tensor, int]],
    distance: Distance,
    seed: int,
    square: Callable[[Tensor], T],
) -> dict[str, T]:
    """Return means over samples of ``square`` of each parameter's gradients, by name; those without one are left out.

    ``outputs`` yields the model's outputs (B, ..., K) with their graph, one batch after the other, and B.
    """
    totals: dict[str, Any] = {}

    def add(number: int, name: str, gradient: Tensor) -> None:
        totals[name] = totals.get(name, 0.0) + square(gradient)

    samples = sum(_sampled(parameters, outputs, distance, seed, add))
    return {name: total / samples for name, total in totals.items()}


def tensor_sensitivity(
    parameters: Mapping[str, nn.Parameter], outputs: Probes, distance: Distance, seed: int, world: World = ALONE
) -> dict[str, float]:
    """Return by name the mean over each tensor's elements of F = E[(∂ℓ/∂w)²], in loss units per squared weight.

    Arguments are those of ``sums_of_squares``; each rank of ``world`` may look at other batches. The expected
    distillation loss of an error ε is about ½ Σ F ε². Tensors without a gradient get 0.
    """
    squares: list[dict[str, float]] = []

    def add(number: int, name: str, gradient: Tensor) -> None:
        squares.extend({} for _ in range(len(squares), number + 1))
        norm = float(torch.linalg.vector_norm(gradient.to(wide(gradient.device)), dtype=torch.float64))
        squares[number][name] = norm**2 / gradient.numel()

    samples = _sampled(parameters, outputs, distance, seed, add)
    squares.extend({} for _ in range(len(squares), len(samples)))
    table = [[count, *(row.get(name, 0.0) for name in parameters)] for count, row in zip(samples, squares, strict=True)]
    gathered = world.sum_(torch.tensor(table, dtype=torch.float64, device="cpu").view(len(table), -1))
    total = torch.zeros_like(gathered[0])
    for row in gathered:  # in the order of one process
        total += row
    return dict(zip(parameters, (total[1:] / total[0]).tolist(), strict=True))


Decomposable = nn.Linear | nn.Conv2d | nn.Embedding


@dataclass
class Curvature:
    """The curvature of one layer in float64: sums over ``places`` uses of inputs, over ``samples`` of gradients."""

    inputs: Tensor  # Σ x xᵀ (I, I); for embeddings the counts of the V rows, (V,)
    sums: Tensor  # Σ x (I,); for embeddings empty
    magnitudes: Tensor  # Σ |x| (I,), the same
    gradients: Tensor  # Σ g gᵀ (O, O)
    places: int = 0
    samples: int = 0

    @property
    def second(self) -> Tensor:
        """X = E[x xᵀ], (I, I); for embeddings frequencies (V,)."""
        return self.inputs / max(self.places, 1)

    @property
    def mean(self) -> Tensor:
        """E[x], (I,)."""
        return self.sums / max(self.places, 1)

    @property
    def magnitude(self) -> Tensor:
        """E|x|, (I,)."""
        return self.magnitudes / max(self.places, 1)

    @property
    def output(self) -> Tensor:
        """G, (O, O), per sample."""
        return self.gradients / max(self.samples, 1)


def fresh(layer: Decomposable) -> Curvature:
    """Return zeros of the right shapes for one layer."""
    zeros = functools.partial(torch.zeros, dtype=torch.float64, device=wide(layer.weight.device))
    if isinstance(layer, nn.Embedding):
        return Curvature(
            zeros(layer.num_embeddings), zeros(0), zeros(0), zeros(layer.embedding_dim, layer.embedding_dim)
        )
    outputs, inputs = layer.weight.flatten(1).shape
    return Curvature(zeros(inputs, inputs), zeros(inputs), zeros(inputs), zeros(outputs, outputs))


def _add_inputs(curvature: Curvature, layer: Decomposable, inputs: Tensor) -> None:
    """Add what one call of the layer was fed; Unseen where its weight cannot be what that is multiplied with."""
    if not isinstance(layer, nn.Embedding):
        add_columns(curvature, columns(layer, inputs)[0])
        return
    if inputs.is_floating_point() or inputs.is_nested:
        raise Unseen(f"it is fed {inputs.dtype}{' of several lengths' * inputs.is_nested}: expected indices (B, ...)")
    curvature.inputs += torch.bincount(inputs.flatten(), minlength=layer.num_embeddings).to(curvature.inputs)
    curvature.places += inputs.numel()


@torch.no_grad()
def add_columns(curvature: Curvature, inputs: Tensor) -> None:
    """Add inputs (I, N) of a layer, in place."""
    curvature.inputs += _gram(inputs)
    curvature.sums += double(inputs.sum(1))
    curvature.magnitudes += double(inputs.abs().sum(1))
    curvature.places += inputs.shape[1]


def measure_curvature(
    module: nn.Module,
    layers: Mapping[str, Decomposable],
    runs: Iterable[tuple[Callable[[], Tensor], int]],
    probe: Callable[[Tensor], Tensor] | None,
) -> Measured[Curvature]:
    """Return the curvature of each of ``layers`` by name; without ``probe`` of their inputs alone.

    Each of ``runs`` calls the module on some data and returns its outputs, with the number of samples; ``probe`` makes
    the random scalar of them whose gradients are taken. Layers that are never called, or not in a way that tells all
    about them, are left out and listed.
    """
    found: dict[str, Curvature] = {}
    weights = [layer.weight for layer in layers.values() if layer.weight.requires_grad]

    def see(call: Call) -> None:
        layer = layers[call.name]
        if call.name not in found:
            found[call.name] = fresh(layer)
        curvature = found[call.name]
        _add_inputs(curvature, layer, call.input.detach())
        if probe is not None and floating(call.result) and call.result.requires_grad:
            call.backward(functools.partial(_add_gradient, curvature, layer))

    with capture(layers, see, own=True) as seen:
        for run, samples in runs:
            with torch.set_grad_enabled(probe is not None):
                outputs = run()
                scalar = None if probe is None else probe(outputs)
            if scalar is not None and scalar.requires_grad and weights:  # gradients are not left with the weights
                torch.autograd.grad(scalar, weights, allow_unused=True)
            for curvature in found.values():
                curvature.samples += samples
    missed = {name: NO_ROWS for name, curvature in found.items() if not curvature.places} | seen.missed
    return Measured({name: each for name, each in found.items() if name not in missed}, missed)


@torch.no_grad()
def _add_gradient(curvature: Curvature, layer: Decomposable, gradient: Tensor) -> None:
    if isinstance(layer, nn.Conv2d):
        flat = gradient.movedim(-3, 0).flatten(1)  # (O, N)
    else:
        flat = rows(gradient, len(curvature.gradients)).T
    curvature.gradients += _gram(flat)


def _gram(flat: Tensor) -> Tensor:
    """X Xᵀ in float64: multiplied in float32, which is faster, and scaled where squares would leave its range."""
    largest = float(flat.abs().max()) if flat.numel() else 0.0
    if largest == 0 or SMALLEST < largest < LARGEST:
        return double(flat @ flat.T)
    scale = 2.0 ** math.frexp(largest)[1]  # a power of two: not a bit is lost
    flat = (double(flat) / scale).to(flat)
    return double(flat @ flat.T) * scale**2
