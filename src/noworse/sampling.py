"""Endless shuffled calibration batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from noworse import data
from noworse.data import Batch


class Sampler:
    """Draws batches of ``size`` samples in random order, each sample once per pass over the data.

    Where the given batches can be joined, samples are drawn one by one; otherwise (sequences of different lengths)
    whole batches are drawn as they came. ``outputs`` holds the original model's outputs for the same samples.
    """

    def __init__(self, batches: Sequence[Batch], size: int, seed: int) -> None:
        self.batches = list(batches)
        self.generator = torch.Generator().manual_seed(seed)
        self.outputs: list[Tensor] = []
        if data.joinable(self.batches):
            self.batches = [data.concatenate(self.batches)]
            self.count = data.batch_size(self.batches[0])
            self.size = min(size, self.count)
        else:
            self.count, self.size = len(self.batches), 1

    @torch.no_grad()
    def remember(self, run: Callable[[Batch], Tensor], at_a_time: int = 256) -> None:
        """Store the outputs of ``run`` for every sample."""
        for batch in self.batches:
            rows = torch.split(torch.arange(data.batch_size(batch)), at_a_time)
            self.outputs.append(torch.cat([run(data.select(batch, part)) for part in rows]))

    def __iter__(self) -> Iterator[tuple[Batch, Tensor | None]]:
        while True:
            order = torch.randperm(self.count, generator=self.generator)
            for rows in torch.split(order[: self.count - self.count % self.size], self.size):
                if len(self.batches) == 1:
                    batch = data.select(self.batches[0], rows)
                    yield batch, self.outputs[0][rows] if self.outputs else None
                else:
                    index = int(rows)
                    yield self.batches[index], self.outputs[index] if self.outputs else None
