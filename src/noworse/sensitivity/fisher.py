"""Diagonal Gauss-Newton (Fisher) sensitivity of each tensor, from sampled probes on unlabelled data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from noworse.distill import Distiller


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
    leaves = list(parameters.values())
    for batch_outputs, size in outputs:
        samples += size
        probe = distiller.probe(batch_outputs, generator)
        if not probe.requires_grad:  # the outputs are detached
            continue
        gradients = torch.autograd.grad(probe, leaves, allow_unused=True)
        for name, gradient in zip(parameters, gradients, strict=True):
            if gradient is not None:
                totals[name] += gradient.double().square().mean().item()
    return {name: total / samples for name, total in totals.items()}
