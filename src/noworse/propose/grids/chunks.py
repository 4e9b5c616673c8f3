"""Rounding and counting by torch, in chunks that stay in the cache: small tensors together, parts of large ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from noworse.propose.grids.transform import decode, magnitude
from noworse.rate.counter import Cells

CHUNK, SMALL = 1 << 16, 1 << 13  # weights processed at a time; tensors below this size are processed together
AFAR = 1 << 24, 1 << 20  # the same on other devices, where starting to work is what takes time


@dataclass(frozen=True)
class Chunk:
    """Consecutive weights: rows of the flat vector and the tensors (a range of them) they belong to."""

    rows: slice
    tensors: slice
    owner: Tensor | None  # (n,) int64 index of each weight's tensor; None where there is only one

    def pick(self, values: Tensor) -> Tensor:
        """One value of a (K,) vector, where the weights are, per weight, or a single one that broadcasts."""
        return values[self.tensors] if self.owner is None else values[self.owner]

    def decode(self, scaled: Tensor, excess: Tensor, steps: Tensor, r: Tensor, out: Tensor) -> Tensor:
        """Return ŵ of w/s = ``scaled`` with ``excess`` |w|/s − r, written to ``out``."""
        values = decode(magnitude(excess), r).mul_(self.pick(steps))
        return torch.copysign(values, scaled, out=out)

    def cell(self, cells: Cells, first: int, scaled: Tensor, excess: Tensor) -> Tensor:
        """Return the cell of each weight (int64), counted from the chunk's ``first``; ``excess`` is overwritten."""
        cell = excess.mul_(self.pick(cells.resolution)).floor_().long()
        cell += self.pick(cells.base + cells.zero) - first
        cell += (scaled < 0) * self.pick(cells.width)
        return cell

    def add(self, total: Tensor, values: Tensor) -> None:
        """Add the sums of ``values`` over each tensor to ``total`` (K,)."""
        if self.owner is None:
            total[self.tensors] += values.sum()
        else:
            total.index_add_(0, self.owner, values)


def cut(sizes: Sequence[int], device: torch.device) -> Iterator[Chunk]:
    """Yield the chunks of tensors of these sizes, one after the other."""
    offsets = [0, *accumulate(sizes)]
    first, (most, small) = 0, (CHUNK, SMALL) if device.type == "cpu" else AFAR
    while first < len(sizes):
        last = first + 1
        while last < len(sizes) and max(sizes[first : last + 1]) < small:
            last += 1
        begin, end = offsets[first], offsets[last]
        size, owner = most, None
        if last - first > 1:
            numbers, counts = (torch.tensor(n, device="cpu") for n in (range(first, last), sizes[first:last]))
            owner, size = torch.repeat_interleave(numbers, counts).to(device), end - begin
        for a in range(begin, end, size):
            yield Chunk(slice(a, min(a + size, end)), slice(first, last), owner)
        first = last
