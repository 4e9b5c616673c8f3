"""Endless shuffled calibration batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from noworse import data
from noworse.data import Batch

AT_A_TIME, ELEMENTS = 256, 1 << 20  # most samples, and elements of their inputs, of one forward pass


class Sampler:
    """Draws batches of ``size`` samples in random order, each sample once per pass over the data.

    Where the given batches can be joined, samples are drawn one by one; otherwise (sequences of different lengths)
    whole batches are drawn as they came. ``outputs`` holds the original model's outputs for the same samples.
    """

    def __init__(self, batches: Sequence[Batch], size: int, seed: int) -> None:
        self.batches = list(batches)
        self.seed, self.generator = seed, torch.Generator().manual_seed(seed)
        self.outputs: list[Tensor] = []
        if data.joinable(self.batches):
            self.batches = [data.concatenate(self.batches)]
            self.count = data.batch_size(self.batches[0])
            self.size = min(size, self.count)
        else:
            self.count, self.size = len(self.batches), 1

    def at_a_time(self) -> int:
        """How many samples may be evaluated together without gradients: up to 256, fewer of large ones."""
        elements = max(sum(leaf[0].numel() for leaf in data.leaves(batch)) for batch in self.batches)
        return max(1, min(AT_A_TIME, ELEMENTS // max(1, elements)))

    @torch.no_grad()
    def remember(self, run: Callable[[Batch], Tensor]) -> None:
        """Store the outputs of ``run`` for every sample."""
        for batch in self.batches:
            rows = torch.split(torch.arange(data.batch_size(batch)), self.at_a_time())
            self.outputs.append(torch.cat([run(data.select(batch, part)) for part in rows]))

    def __iter__(self) -> Iterator[tuple[Batch, Tensor | None]]:
        return self._draw(self._rows())

    def after(self, batches: int) -> Iterator[tuple[Batch, Tensor | None]]:
        """What a new sampler of the same seed would go on with after so many batches."""
        self.generator.manual_seed(self.seed)
        return self._draw(itertools.islice(self._rows(), batches, None))

    def _rows(self) -> Iterator[Tensor]:
        while True:
            order = torch.randperm(self.count, generator=self.generator)
            yield from torch.split(order[: self.count - self.count % self.size], self.size)

    def _draw(self, drawn: Iterator[Tensor]) -> Iterator[tuple[Batch, Tensor | None]]:
        for rows in drawn:
            if len(self.batches) == 1:
                batch = data.select(self.batches[0], rows)
                yield batch, self.outputs[0][rows] if self.outputs else None
            else:
                index = int(rows)
                yield self.batches[index], self.outputs[index] if self.outputs else None
