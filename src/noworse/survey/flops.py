"""Arithmetic of a forward pass: what linear, recurrent and convolutional layers multiply and add."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from noworse.model.recurrent import opened
from noworse.survey.capture import Call, capture


@torch.no_grad()
def count_flops(module: nn.Module, run: Callable[[nn.Module], object], samples: int) -> int:
    """Return floating-point operations per sample of linear, recurrent and convolutional layers, two per product.

    ``run(module)`` makes one forward pass of ``samples`` samples. Layers are counted each time they are called.
    """
    total = 0

    def see(call: Call) -> None:
        nonlocal total
        weight: Tensor = call.layer.weight  # type: ignore[assignment]
        total += 2 * call.result.numel() * weight[0].numel()

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    with opened(module) as modules, capture({n: m for n, m in modules.items() if isinstance(m, kinds)}, see):
        run(module)
    return total // samples
