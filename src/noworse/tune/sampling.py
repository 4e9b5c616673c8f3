"""Endless shuffled calibration batches."""

import itertools
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from noworse.model.device import CPU, seeded
from noworse.task import data
from noworse.task.data import Batch

AT_A_TIME, ELEMENTS = 256, 1 << 20  # most samples, and elements of their inputs, of one forward pass


class Sampler:
    """Draws batches of ``size`` samples in random order, each sample once per pass over the data.

    Where the given batches can be joined, samples are drawn one by one; otherwise (sequences of different lengths)
    whole batches are drawn as they came. ``outputs`` holds the original model's outputs for the same samples.
    """

    def __init__(self, batches: Sequence[Batch], size: int, seed: int) -> None:
        self.batches = list(batches)
        self.seed, self.generator = seed, seeded(CPU, seed)
        self.outputs: list[Tensor] = []
        self.joined = data.joinable(self.batches)
        self._sizes = list(map(data.batch_size, self.batches))
        self._ends = torch.tensor(self._sizes, device="cpu").cumsum(0)
        self.count = sum(self._sizes) if self.joined else len(self.batches)
        self.size = min(size, self.count) if self.joined else 1

    def at_a_time(self) -> int:
        """Return how many samples may be evaluated together without gradients: up to 256, fewer of large ones."""
        elements = max(sum(leaf[0].numel() for leaf in data.leaves(batch)) for batch in self.batches)
        return max(1, min(AT_A_TIME, ELEMENTS // max(1, elements)))

    @torch.no_grad()
    def remember(self, run: Callable[[Batch], Tensor]) -> None:
        """Store the outputs of ``run`` for every sample."""
        for number, whole in enumerate([self.count] if self.joined else self._sizes):
            rows = torch.split(torch.arange(whole, device="cpu"), self.at_a_time())
            parts = (self.pick(part) if self.joined else data.select(self.batches[number], part) for part in rows)
            self.outputs.append(torch.cat([run(part) for part in parts]))

    def pick(self, rows: Tensor) -> Batch:
        """Return the samples of these numbers as one batch, without joining all given batches, which takes memory."""
        homes = torch.bucketize(rows, self._ends, right=True)
        parts, places = [], []
        for home in sorted(set(homes.tolist())):
            places.append((homes == home).nonzero()[:, 0])
            first = int(self._ends[home]) - self._sizes[home]
            parts.append(data.select(self.batches[home], rows[places[-1]] - first))
        return parts[0] if len(parts) == 1 else data.select(data.concatenate(parts), torch.cat(places).argsort())

    def first(self, count: int) -> Batch:
        """Return the first samples, up to ``count``, as one batch; where batches cannot be joined, of the first one."""
        if not self.joined:
            return data.select(self.batches[0], slice(0, count))
        return self.pick(torch.arange(min(count, self.count), device="cpu"))

    def __iter__(self) -> Iterator[tuple[Batch, Tensor | None]]:
        return self._draw(0)

    def after(self, batches: int) -> Iterator[tuple[Batch, Tensor | None]]:
        """Yield what a new sampler of the same seed would go on with after so many batches."""
        self.generator.manual_seed(self.seed)
        return self._draw(batches)

    def _rows(self) -> Iterator[Tensor]:
        while True:
            order = torch.randperm(self.count, generator=self.generator, device="cpu")
            yield from torch.split(order[: self.count - self.count % self.size], self.size)

    def _draw(self, skipped: int) -> Iterator[tuple[Batch, Tensor | None]]:
        for rows in itertools.islice(self._rows(), skipped, None):
            if self.joined:
                yield self.pick(rows), self.outputs[0][rows] if self.outputs else None
            else:
                yield self.batches[int(rows)], self.outputs[int(rows)] if self.outputs else None
