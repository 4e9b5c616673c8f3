"""Curvature of the loss in each layer's weights, as a Kronecker product of what goes in and of what comes back.

For a layer y = W x the expected loss of an error δ of W is about ½ tr(G δ X δᵀ), with X = E[x xᵀ] over all places where
the weights are used and G = Σ_places E[g gᵀ] of the loss's gradients g at the outputs. Gradients are those of sampled
probes (see ``Distiller.probe``), so that no labels are needed.

Source: Martens and Grosse, K-FAC (ICML 2015); Grosse and Martens (ICML 2016) for convolutions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from noworse.model.hooks import removing
from noworse.survey.moments import patches

Decomposable = nn.Linear | nn.Conv2d | nn.Embedding


@dataclass
class Curvature:
    """What is known of one layer, float64: sums over ``places`` uses of inputs, over ``samples`` of gradients."""

    inputs: Tensor  # Σ x xᵀ (I, I); for embeddings the counts of the V rows, (V,)
    sums: Tensor  # Σ x (I,); for embeddings empty
    magnitudes: Tensor  # Σ |x| (I,), the same
    gradients: Tensor  # Σ g gᵀ (O, O)
    places: int = 0
    samples: int = 0

    @property
    def second(self) -> Tensor:
        """X = E[x xᵀ], (I, I)."""
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
    """Zeros of the right shapes for one layer."""
    rows = layer.weight.shape[0]
    double = torch.float64
    if isinstance(layer, nn.Embedding):
        empty = torch.zeros(0, dtype=double)
        square = torch.zeros(layer.embedding_dim, layer.embedding_dim, dtype=double)
        return Curvature(torch.zeros(rows, dtype=double), empty, empty, square)
    size = layer.weight[0].numel()
    zeros = torch.zeros(size, dtype=double)
    return Curvature(torch.zeros(size, size, dtype=double), zeros, zeros.clone(), torch.zeros(rows, rows, dtype=double))


@torch.no_grad()
def add_inputs(found: Curvature, layer: Decomposable, inputs: Tensor) -> None:
    """Add what one call of the layer was fed."""
    if isinstance(layer, nn.Embedding):
        found.inputs += torch.bincount(inputs.flatten(), minlength=layer.num_embeddings)
        found.places += inputs.numel()
        return
    columns = patches(layer, inputs)[0]  # (I, N)
    found.inputs += (columns @ columns.T).double()
    found.sums += columns.sum(1).double()
    found.magnitudes += columns.abs().sum(1).double()
    found.places += columns.shape[1]


def measure(
    module: nn.Module,
    layers: Mapping[str, Decomposable],
    runs: Iterable[tuple[Callable[[], Tensor], int]],
    probe: Callable[[Tensor], Tensor] | None,
) -> dict[str, Curvature]:
    """The curvature of each of ``layers``; without ``probe`` of their inputs alone. Layers never called are left out.

    Each of ``runs`` calls the module on some data and returns its outputs, with the number of samples; ``probe`` makes
    the random scalar of them whose gradients are taken.
    """
    found: dict[str, Curvature] = {}
    weights = [layer.weight for layer in layers.values() if layer.weight.requires_grad]

    def observe(name: str) -> Callable[..., None]:
        def hook(layer: Any, arguments: tuple[Tensor, ...], output: Tensor) -> None:
            curvature = found.setdefault(name, fresh(layer))
            add_inputs(curvature, layer, arguments[0].detach())
            if probe is not None and output.requires_grad:
                output.register_hook(functools.partial(_add_gradient, curvature, layer))  # type: ignore[no-untyped-call]

        return hook

    with removing(layer.register_forward_hook(observe(name)) for name, layer in layers.items()):
        for run, samples in runs:
            with torch.set_grad_enabled(probe is not None):
                outputs = run()
                scalar = None if probe is None else probe(outputs)
            if scalar is not None and scalar.requires_grad and weights:  # gradients are not left with the weights
                torch.autograd.grad(scalar, weights, allow_unused=True)
            for curvature in found.values():
                curvature.samples += samples
    return found


@torch.no_grad()
def _add_gradient(found: Curvature, layer: Decomposable, gradient: Tensor) -> None:
    flat = gradient.transpose(0, 1).flatten(1) if isinstance(layer, nn.Conv2d) else gradient.flatten(0, -2).T  # (O, N)
    found.gradients += (flat @ flat.T).double()
