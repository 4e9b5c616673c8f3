"""Diagonal Gauss-Newton (Fisher) sensitivity of each tensor, from sampled probes on unlabelled data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from noworse.survey.capture import gradients
from noworse.task.distances import Distance

T = TypeVar("T")


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
    generator = torch.Generator().manual_seed(seed)
    totals: dict[str, Any] = {}
    samples = 0

    def add(name: str, gradient: Tensor) -> None:
        totals[name] = totals.get(name, 0.0) + square(gradient)

    leaves = list(parameters.values())
    with gradients(parameters, add):
        for batch_outputs, size in outputs:
            samples += size
            probe = distance.probe(batch_outputs, generator)
            if probe.requires_grad:  # the outputs are not detached
                probe.backward(inputs=leaves)  # type: ignore[no-untyped-call]
    return {name: total / samples for name, total in totals.items()}


def tensor_sensitivity(
    parameters: Mapping[str, nn.Parameter], outputs: Iterable[tuple[Tensor, int]], distance: Distance, seed: int
) -> dict[str, float]:
    """Return by name the mean over each tensor's elements of F = E[(∂ℓ/∂w)²], in loss units per squared weight.

    Arguments are those of ``sums_of_squares``. The expected distillation loss of an error ε is about ½ Σ F ε². Tensors
    without a gradient get 0.
    """

    def mean_square(gradient: Tensor) -> float:
        return float(torch.linalg.vector_norm(gradient, dtype=torch.float64)) ** 2 / gradient.numel()

    return dict.fromkeys(parameters, 0.0) | sums_of_squares(parameters, outputs, distance, seed, mean_square)
