"""How images lie in memory: CPUs are faster where channels come last, and some models cannot be fed so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from noworse.model.tensors import float32_copy
from noworse.task.data import Batch, leaves, to_float32

CLOSE = 1e-3  # of the largest output: how far rounding may move outputs between the two layouts


def takes_channels_last(model: nn.Module, batch: Batch, forward: Callable[[nn.Module, Batch], Tensor]) -> bool:
    """Return whether ``model`` computes the same on images, and with kernels, whose channels come last.

    It does not where a forward calls ``view`` on what a convolution returns, as many do before their first linear
    layer. Models without images and without kernels of convolutions may as well be told that they do.
    """
    tensors = [*leaves(batch), *model.parameters()]
    if not any(tensor.ndim == 4 and tensor.is_floating_point() for tensor in tensors):
        return True
    with torch.no_grad():
        plain = float32_copy(model, share=True)
        expected = forward(plain, to_float32(batch, channels_last=False))  # where this fails, the model is at fault
        moved: Any = float32_copy(model)
        try:
            found = forward(moved.to(memory_format=torch.channels_last), to_float32(batch))
        except RuntimeError:  # torch's, of a view that is none in this layout
            return False
    apart = (found.double() - expected.double()).abs().max() if found.numel() else torch.zeros(())
    return bool(apart <= CLOSE * expected.double().abs().max())
