"""Arithmetic of a forward pass: what linear and convolutional layers multiply and add."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from noworse.model.hooks import removing


@torch.no_grad()
def count_flops(module: nn.Module, run: Callable[[nn.Module], object], samples: int) -> int:
    """Floating-point operations per sample of all linear and convolutional layers, two per multiplication.

    ``run(module)`` makes one forward pass of ``samples`` samples. Layers are counted each time they are called.
    """
    total = 0

    def hook(layer: nn.Module, arguments: object, output: Tensor) -> None:
        nonlocal total
        weight: Tensor = layer.weight  # type: ignore[assignment]
        total += 2 * output.numel() * weight[0].numel()

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    with removing(layer.register_forward_hook(hook) for layer in module.modules() if isinstance(layer, kinds)):
        run(module)
    return total // samples
