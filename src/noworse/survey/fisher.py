"""Diagonal Gauss-Newton (Fisher) sensitivity of each tensor, from sampled probes on unlabelled data."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from noworse.model.hooks import removing
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

    def add(name: str, parameter: Tensor) -> None:
        assert parameter.grad is not None, "hooks run after it was accumulated"
        norm = torch.linalg.vector_norm(parameter.grad, dtype=torch.float64)
        totals[name] += float(norm) ** 2 / parameter.numel()
        parameter.grad = None  # no two gradients are held together

    leaves = list(parameters.values())
    watched: Iterable[Any] = parameters.items()  # torch leaves the method without types
    with removing(p.register_post_accumulate_grad_hook(functools.partial(add, name)) for name, p in watched):
        for batch_outputs, size in outputs:
            samples += size
            probe = distiller.probe(batch_outputs, generator)
            if probe.requires_grad:  # the outputs are not detached
                probe.backward(inputs=leaves)  # type: ignore[no-untyped-call]
    return {name: total / samples for name, total in totals.items()}
