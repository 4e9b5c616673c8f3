"""The model under work, one for all three verbs: the original, a float32 copy of it, what both are fed, and how.

The caller's model and batches are never changed: the copy is what is folded, quantised or taken apart, and every batch
is handed out as a copy in the layout that the model takes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.model.hooks import thawed
from noworse.model.tensors import float32_copy, kept_tensors, state_tensors, version_of
from noworse.run.resume import NOWHERE
from noworse.survey.norms import fold_norms
from noworse.task import data
from noworse.task.calls import first_call
from noworse.task.data import Batch
from noworse.task.distances import Distance, distance_of
from noworse.task.task import Task

PROBE = 8  # samples that folded norms must agree on
AT_A_TIME = 64  # samples of one pass where nothing else limits them
KEPT = 1 << 24  # bytes of outputs that are kept of samples that are looked at several times


class Subject:
    """The original of a task as a float32 teacher, the samples that it is shown and those held back, and a distance.

    ``kept`` names the tensors that are stored as they are; ``originals`` holds all tensors of the caller's model by
    name. BadInput where a model has no outputs that can be compared.
    """

    def __init__(self, task: Task, calib: list[Batch], hold_back: float = 0.0, seed: int = 0) -> None:
        self.task, self.calib, self.seed = task, calib, seed
        self.work = NOWHERE  # keeps what is measured, where a run may be interrupted
        self.forward = task.outputs  # (B, ..., K) in float32 of a module on a batch
        self.shown, self.held_back = data.split(calib, hold_back, seed) if hold_back else (calib, [])
        entries = state_tensors(task.model)
        own = {e.name: e.tensor for e in entries if e.tied_to is None}
        masks = {name for name in own if name.endswith("_mask") and f"{name.removesuffix('mask')}orig" in own}
        self.original_bytes = sum(t.numel() * t.element_size() for name, t in own.items() if name not in masks)
        self.originals = {entry.name: entry.tensor.detach() for entry in entries}
        self.kept = kept_tensors(entries, task.keep)
        self.teacher = float32_copy(task.model, share=True)
        self.probe = data.select(self.shown[0], slice(0, PROBE))
        before = self._versions()
        with first_call(task.model, self.probe, task.forward):
            self.original(self.probe)
        for name in (name for name, version in self._versions().items() if version != before[name]):
            found = f"a call of the model in eval mode changes its buffer {name!r}"
            raise BadInput(f"{found}: expected a forward that leaves the state as it is")
        if not self._differentiable():
            self.forward = self._thawed
        self.channels_last = task.channels_last(self.probe)

    def _versions(self) -> dict[str, tuple[int, int | None]]:
        """What changes with any write into a buffer of the teacher's state, by name."""
        buffers = self.teacher.named_buffers(remove_duplicate=False)
        return {name: (id(buffer), version_of(buffer)) for name, buffer in buffers if name in self.originals}

    @torch.no_grad()
    def original(self, batch: Batch) -> Tensor:
        """Return the original's outputs (B, ..., K) on a batch; BadInput where they cannot be compared with others."""
        return usable(self.forward(self.teacher, batch), data.batch_size(batch))

    def _differentiable(self) -> bool:
        """Whether gradients reach any weight: not where all of a forward is under ``no_grad``."""
        weights = [weight for weight in self.teacher.parameters() if weight.is_floating_point()]
        for weight in weights:
            weight.requires_grad_(True)
        with torch.enable_grad():
            found = self.forward(self.teacher, self.probe).requires_grad
        for weight in weights:
            weight.requires_grad_(False)
        return found

    def _thawed(self, module: nn.Module, batch: Batch) -> Tensor:
        with thawed():
            return self.task.outputs(module, batch)

    def on_probe(self, module: nn.Module) -> Tensor:
        """Return outputs (B, ..., K) of ``module`` on a few samples."""
        return self.forward(module, self.probe)

    def folded(self, scales: dict[str, list[Tensor]] | None = None) -> tuple[nn.Module, Sequence[str]]:
        """Return a copy of the teacher whose norms are folded into their neighbours, and the names of these norms.

        ``scales`` gets by layer what its weight was multiplied by.
        """
        return fold_norms(self.teacher, self.on_probe, self.kept, scales)

    def fold(self) -> None:
        """Make the teacher the copy whose norms are folded, so that all that is built from it has them folded."""
        self.teacher, _ = self.folded()

    def samples(self, count: int, at_a_time: int = AT_A_TIME) -> Iterator[Batch]:
        """Yield the first ``count`` of the samples that may be shown, at most ``at_a_time`` in a batch."""
        return data.first_samples(self.shown, count, at_a_time)

    def unseen(self, count: int, fewest: int) -> list[Batch]:
        """Return up to ``count`` samples that nothing is fitted to; where fewer are held back, ``fewest`` at least."""
        here = max(fewest, sum(map(data.batch_size, self.held_back)))
        return list(data.first_samples([*self.held_back, *self.shown], min(count, here), AT_A_TIME))

    def runs(self, module: nn.Module, count: int, at_a_time: int = AT_A_TIME) -> Iterator[Callable[[], Tensor]]:
        """Yield functions that feed the first ``count`` samples to ``module``, a batch each."""
        return (run for run, _ in self.sized_runs(module, count, at_a_time))

    def sized_runs(
        self, module: nn.Module, count: int, at_a_time: int = AT_A_TIME
    ) -> Iterator[tuple[Callable[[], Tensor], int]]:
        """Yield the same functions, each with the number of its samples."""
        for batch in self.samples(count, at_a_time):
            yield partial(self.forward, module, batch), data.batch_size(batch)

    def distance(self, outputs: Tensor, kind: str | None = None, temperature: float = 1.0) -> Distance:
        """Return the task's distance between outputs (or that of another ``kind``), scaled by the original's."""
        return distance_of(kind or self.task.distill, outputs, temperature)


class Outputs:
    """The original's outputs on batches that are the same every time: kept within a limit, else computed again."""

    def __init__(self, run: Callable[[Batch], Tensor], limit: int = KEPT) -> None:
        self._run, self._left = run, limit
        self._kept: dict[int, Tensor] = {}

    def __call__(self, batches: Iterable[Batch]) -> Iterator[tuple[Batch, Tensor]]:
        """Yield each batch with what the original makes of it."""
        for number, batch in enumerate(batches):
            outputs = self._kept.get(number)
            if outputs is None:
                outputs = self._run(batch)
                if outputs.nbytes <= self._left:
                    self._left -= outputs.nbytes
                    self._kept[number] = outputs
            yield batch, outputs


def usable(outputs: Tensor, samples: int) -> Tensor:
    """Return outputs as they are if they are finite numbers of so many samples; BadInput where they are not."""
    real = isinstance(outputs, Tensor) and outputs.is_floating_point() and outputs.dim() > 1
    if not real or len(outputs) != samples:
        found = f"{tuple(outputs.shape)} {outputs.dtype}" if isinstance(outputs, Tensor) else type(outputs).__name__
        expected = f"floating-point outputs (B, ..., K), here of B = {samples} samples"
        if isinstance(outputs, Tensor) and outputs.shape == (samples,):
            expected += ', as a forward= that returns model(...)[:, None] gives with distill="mse"'
        raise BadInput(f"the model's outputs on calib are {found}: expected {expected}")
    if not bool(torch.isfinite(outputs).all()):
        raise BadInput("the model's outputs on calib hold NaN or infinite values: expected finite outputs")
    return outputs
