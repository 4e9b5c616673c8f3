"""Which tensors of a set each rank has: neighbours in the flat vector, about as many weights on every rank.

A rank alone has the latent weights of its tensors, the sum of their gradients and what the optimiser remembers of them.
Rounded weights, and what there is one of for each tensor, are on all ranks. No tensor is cut. Source: Rajbhandari et
al., ZeRO (SC 2020).
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from noworse.run.processes import World


class Shares:
    """The division of K tensors of these ``sizes`` among the ranks of a world.

    ``homes`` (K,) are the ranks that have them, ``own`` the numbers of this rank's, ``part`` its place in (N,) weights.
    """

    def __init__(self, world: World, sizes: Sequence[int]) -> None:
        self.world, self.count = world, len(sizes)
        middles = [2 * end - size for size, end in zip(sizes, accumulate(sizes))]  # times two
        self.homes = [min(world.size - 1, middle * world.size // max(1, 2 * sum(sizes))) for middle in middles]
        self.own = range(bisect_left(self.homes, world.rank), bisect_right(self.homes, world.rank))
        ends = [bisect_right(self.homes, rank) for rank in range(world.size)]
        self._weights = [sum(sizes[begin:end]) for begin, end in zip([0, *ends], ends)]  # of each rank
        begin = sum(self._weights[: world.rank])
        self.part = slice(begin, begin + self._weights[world.rank])

    def parts(self, whole: Tensor) -> Sequence[Tensor]:
        """Return what each rank has of a vector (N,), as views."""
        return torch.split(whole, self._weights)

    def of_own(self, every: Tensor) -> Tensor:
        """Return what this rank's tensors have of numbers (K,), as a view."""
        return every[self.own.start : self.own.stop]

    def of_all(self, own: Tensor) -> Tensor:
        """Return numbers (..., K) of all tensors, of which each rank gives those of its ``own``."""
        if self.world.size == 1:
            return own
        every = own.new_zeros(*own.shape[:-1], self.count)
        every[..., self.own.start : self.own.stop] = own
        return self.world.sum_(every)
