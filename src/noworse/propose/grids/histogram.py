"""What a tensor's codes would take at any step, from one look at its weights instead of rounding all of them again."""

import math
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SORTED = 1 << 15  # weights up to which they are sorted: exact, and a histogram would not be smaller
BINS, WEIGHTS = 1 << 16, 8  # of a histogram at most, over both signs; weights for each bin at least
PIECE = 1 << 16  # weights at a time: they stay in the cache


class Histogram:
    """The distribution of weights (n,), not all of them 0, in any unit.

    Large tensors are counted in equal bins, in which weights count as evenly spread: bits are right to about 1e-4.
    """

    def __init__(self, weights: Tensor) -> None:
        self.size, self.largest = len(weights), float(torch.linalg.vector_norm(weights, torch.inf))
        self._values: NDArray[np.float32] | None = None
        if self.size <= SORTED:
            self._values = weights.sort().values.cpu().numpy()
            return
        self._half = min(BINS, self.size // WEIGHTS) // 2
        scale = self._half / self.largest
        total = torch.zeros(2 * self._half + 1, dtype=torch.int64, device=weights.device)
        for piece in torch.split(weights, PIECE):
            places = (piece * scale).add_(self._half).clamp_(0, 2 * self._half - 1).int()
            total[1:] += torch.bincount(places, minlength=2 * self._half)
        self._below = total.cumsum(0).to(torch.int32).cpu().numpy()  # how many lie below each edge

    def bits(self, step: float, zone: float) -> float:
        """Return the ideal code length n·H in bits at a step in the unit of the weights, and a half zone in steps."""
        edges = step * (zone + np.arange(max(0, math.floor(self.largest / step - zone)) + 2, dtype=np.float64))
        above, below = self.size - self._count(edges, "left"), self._count(-edges, "right")
        counts = np.concatenate([above[:-1] - above[1:], below[:-1] - below[1:], [self.size - above[0] - below[0]]])
        seen = counts[counts > 0]
        return max(0.0, float(self.size * math.log2(self.size) - seen @ np.log2(seen)))

    def _count(self, values: NDArray[np.float64], side: Literal["left", "right"]) -> NDArray[np.float64]:
        """How many weights are below each of ``values``, or with ``side`` "right" not above it."""
        if self._values is not None:
            return np.searchsorted(self._values, values, side).astype(np.float64)
        places = np.clip((values / self.largest + 1) * self._half, 0, 2 * self._half)
        whole = np.minimum(places.astype(np.int64), 2 * self._half - 1)
        low = self._below[whole]
        found: NDArray[np.float64] = low + (places - whole) * (self._below[whole + 1] - low)
        return found
