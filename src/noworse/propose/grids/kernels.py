"""What an iteration does to every weight, in native code (kernels.cpp): a twentieth of the time of the torch code.

It knows float32 on processors, straight grids, and the cosine kernel where slopes of weights are not asked for; all
else is torch's. Values and gradients of weights are the same to the last bit; sums are taken in float64 and in one
order, whatever instruction sets and threads there are.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noworse.codec import _native
from noworse.errors import BadInput
from noworse.rate.counter import Slopes
from noworse.rate.soft import Cosine, Kernel


class Placed(NamedTuple):
    """Grids of K tensors as ``quantise`` rounds to them."""

    ends: NDArray[np.int64]  # (K,) where each tensor ends in the flat vector
    ratio: Tensor  # (K,) of the latents' unit to the step
    steps: Tensor  # (K,)
    zones: Tensor  # (K,)

    @property
    def arrays(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """What native code takes."""
        return self.ends, self.ratio.numpy(), self.steps.numpy(), self.zones.numpy()


MOST_STEPS = 2**20  # of a weight: cells of more would not be counted


def too_large(what: object) -> BadInput:
    """Return the error for weights that are not finite, or are too many steps large."""
    return BadInput(f"{what}: expected less, or lower learning rates")


def take(*vectors: Tensor) -> bool:
    """Whether native code takes these flat vectors."""
    return all(v.device.type == "cpu" and v.dtype == torch.float32 and v.is_contiguous() for v in vectors)


def know(kernel: Kernel | None, on_weights: bool) -> bool:
    """Whether native code has what is wanted of the soft entropy: nothing, or the cosine's by steps and zones."""
    return kernel is None or (type(kernel) is Cosine and not on_weights)


def quantise(latent: Tensor, placed: Placed, out: Tensor, kernel: Kernel | None) -> tuple[Tensor, Slopes]:
    """Write ŵ (N,) of latents (N,) to ``out``; return their codes' bits (K,), float64, and the soft entropy's slopes.

    BadInput for weights that are not finite, or beyond 2**20 steps.
    """
    found = np.empty((3, len(placed.ends)))
    delta = kernel.delta if kernel else 0.0
    try:
        _native.quantise(latent.numpy(), *placed.arrays, out.numpy(), delta, found, torch.get_num_threads())
    except ValueError as error:
        raise too_large(error) from error
    bits, by_step, by_zone = torch.from_numpy(found)
    return bits, Slopes(bits.new_zeros(0), by_step.float(), by_zone.float())


def gradients(latent: Tensor, placed: Placed, unit: Tensor, grad: Tensor) -> Sequence[Tensor]:
    """Turn the gradient (N,) at values into that of latents; return Σ g·(ŵ − w) of tensors (K,), and of their zeros."""
    found = np.empty((2, len(placed.ends)))
    threads = torch.get_num_threads()
    _native.gradients(latent.numpy(), *placed.arrays, unit.numpy(), grad.numpy(), found, threads)
    return torch.from_numpy(found).float().unbind()
