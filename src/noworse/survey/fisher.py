"""Diagonal Gauss-Newton (Fisher) sensitivity of each tensor, from sampled probes on unlabelled data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from noworse.survey.capture import gradients
from noworse.task.distances import Distiller


def tensor_sensitivity(
    parameters: Mapping[str, nn.Parameter], outputs: Iterable[tuple[Tensor, int]], distiller: Distiller, seed: int
) -> dict[str, float]:
    """Mean over each tensor's elements of F = E[(∂ℓ/∂w)²], in loss units per squared weight.

    ``outputs`` yields the model's outputs (B, ..., K) with their graph, one batch after the other, and B. The expected
    distillation loss of an error ε is about ½ Σ F ε². Tensors without a gradient get 0.
    """
    generator = torch.Generator().manual_seed(seed)
    totals = dict.fromkeys(parameters, 0.0)
    samples = 0

    def add(name: str, gradient: Tensor) -> None:
        totals[name] += float(torch.linalg.vector_norm(gradient, dtype=torch.float64)) ** 2 / gradient.numel()

    leaves = list(parameters.values())
    with gradients(parameters, add):
        for batch_outputs, size in outputs:
            samples += size
            probe = distiller.probe(batch_outputs, generator)
            if probe.requires_grad:  # the outputs are not detached
                probe.backward(inputs=leaves)  # type: ignore[no-untyped-call]
    return {name: total / samples for name, total in totals.items()}
