"""Models on held-out batches: what they lose and return, and the original's share of it as plain data."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.model.device import double, home, out_of_memory
from noworse.model.tensors import twin, version_of
from noworse.run.processes import ALONE, World
from noworse.survey.capture import capture
from noworse.task import data
from noworse.task.calls import described, told
from noworse.task.data import Batch
from noworse.task.distances import are_logits
from noworse.task.task import Forward, Loss, Score, Task, check_losses

KEPT = 1 << 24  # bytes of logits that are kept of the original, or a quarter of its weights

EXPECTED = "loss(model, batch) to call the model and return one loss per sample"


class Seen(NamedTuple):
    """What a model made of a batch."""

    losses: Tensor  # (B,)
    logits: Tensor | None = None  # (B, ..., K)
    scores: Tensor | None = None  # (B,) of the task's ``score``

    @property
    def nbytes(self) -> int:
        """The bytes of all its tensors."""
        return sum(tensor.nbytes for tensor in self if tensor is not None)

    def kept(self) -> Seen:
        """Return it with logits of its own: those of a model may be a view of more."""
        return self._replace(logits=None if self.logits is None else self.logits.clone())


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Put models into eval mode without gradients for a block; afterwards modes and buffers are what they were."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    kept = [(module, dict(module._buffers)) for module, _ in modes if module._buffers]
    values = [(b, b.clone(), version_of(b)) for _, buffers in kept for b in buffers.values() if b is not None]
    try:
        for model in models:
            model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode
        for module, buffers in kept:
            module._buffers.update(buffers)
        for buffer, before, version in values:
            if version_of(buffer) != version:
                buffer.copy_(before)


@dataclass(frozen=True)
class Observer:
    """A model, how its losses and scores are computed, and whether its logits are wanted; called on a batch it tells.

    Models are given copies of batches: one that writes into its input changes neither the caller's data nor what the
    next model sees.
    """

    model: nn.Module
    loss: Loss
    forward: Forward | None = None
    wanted: bool = True
    what: str = "the model"
    score: Score | None = None

    @classmethod
    def of(cls, task: Task, model: nn.Module, what: str) -> Observer:
        """Return the observer of a model in the place of a task's own."""
        return cls(model, task.loss, task.forward, are_logits(task.distill), what, task.score)

    def __call__(self, index: int, batch: Batch) -> Seen:
        """Return what is seen on batch number ``index``; BadInput that names it where losses are unusable."""
        copied = functools.partial(data.copied, batch, home(self.model))
        calls: list[Any] = []
        what = f"loss of {self.what} fails in batch {index}, {described(batch)},"
        with told(what, lambda: EXPECTED), capture({"": self.model}, lambda call: calls.append(call.result)):
            given = self.loss(self.model, copied())
        losses = check_losses(given, data.batch_size(batch), f"{self.what} in batch {index}")
        if not self.wanted and self.score is None:
            return Seen(losses)
        called_once = self.forward is None and len(calls) == 1
        outputs = self._outputs(batch if called_once else copied(), calls)  # the loss may write into its own
        usable = outputs.is_floating_point() and outputs.ndim >= 2 and len(outputs) == len(losses)
        logits = outputs if self.wanted and usable and outputs.shape[-1] >= 2 and outputs.numel() else None
        return Seen(losses, logits, self._scores(index, outputs, copied()))

    def _scores(self, index: int, outputs: Tensor, batch: Batch) -> Tensor | None:
        if self.score is None:
            return None
        expected = "score(outputs, batch) to return one number per sample"
        with told(f"score of {self.what} fails in batch {index}", lambda: expected):
            found: Any = self.score(outputs, batch)
        if not isinstance(found, Tensor) or found.shape != (data.batch_size(batch),):
            what = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
            raise BadInput(f"score of {self.what} in batch {index} returned {what}: expected {expected}")
        return double(found)

    def _outputs(self, batch: Batch, calls: list[Any]) -> Tensor:
        """What the loss has called the model for, if it did so once; else of a call of our own."""
        if self.forward is not None or len(calls) != 1:
            try:
                calls = [(self.forward or data.forward)(self.model, batch)]
            except (TypeError, RuntimeError) as error:  # also NotImplementedError
                if self.forward is not None or out_of_memory(error):
                    raise
                raise BadInput(
                    "the loss does not call the model exactly once, and the model cannot be called on its inputs "
                    f"({error}): expected forward=, or distill='mse' where outputs are no logits"
                ) from error
        return data.output_tensor(calls[0])


class Original:
    """The original model of a task on batches: losses, logits, metric or scores, computed once and kept as plain data.

    Logits beyond ``limit`` bytes are computed again whenever they are needed. Ranks of a ``world`` share batches, but a
    metric sees all of them: it is left to the last rank, and the others share the batches.
    """

    def __init__(self, task: Task, batches: Iterable[Batch], limit: int | None = None, world: World = ALONE) -> None:
        self.task, self.batches, self.world = task, batches, world
        self.spare = task.metric is not None
        weights = sum(p.numel() * p.element_size() for p in task.model.parameters())
        self._left = max(KEPT, weights // 4) if limit is None else limit
        self._known: dict[int, Seen] = {}
        self._tried = False  # whether the task's functions call what they are given
        self.observer = Observer.of(task, task.model, "the original model")

    def __call__(self, index: int, batch: Batch) -> Seen:
        """Return what is seen on batch number ``index``, as ``Observer`` does."""
        if index in self._known:
            return self._known[index]
        seen = self.observer(index, batch)
        if not self._tried:
            self._tried = True
            require_argument(self.task, batch)
        if seen.nbytes <= self._left:
            self._left -= seen.nbytes
            self._known[index] = seen.kept()
        return seen

    @property
    def mean_loss(self) -> float:
        """The mean loss over all samples; BadInput where there are none."""
        return self._means[0]

    @functools.cached_property
    def _means(self) -> tuple[float, float]:
        """Of losses and scores."""
        if self.world.size > 1:
            _ = self._own_metric  # of the last rank, while the others are at the losses

        def look(index: int, batch: Batch) -> Tensor:
            seen = self(index, batch)
            return torch.stack([double(seen.losses), double(seen.losses if seen.scores is None else seen.scores)], 1)

        with evaluating(self.task.model):
            found = gathered(self.batches, look, 2, self.world, self.spare)
        if not len(found):
            raise BadInput("no batches to compute a mean loss on: expected at least one")
        return float(found[:, 0].mean()), float(found[:, 1].mean())

    @functools.cached_property
    def _own_metric(self) -> float | None:
        return metric_of(self.task, self.task.model, self.batches) if self.world.last else None

    @property
    def metric(self) -> float | None:
        """The task's metric of the original, None where there is none or it is not finite; BadInput where it fails."""
        if self.task.score is not None:
            return finite(self._means[1])
        return self.world.agree(self._own_metric, self.world.size - 1)  # type: ignore[no-any-return]


def gathered(
    batches: Iterable[Batch],
    look: Callable[[int, Batch], Tensor],
    columns: int,
    world: World = ALONE,
    spare: bool = False,
) -> Tensor:
    """Return what ``look(number, batch)`` gives, (B, ``columns``), for the samples of all batches, in float64.

    Ranks take the batches in turn, and all get the same; with ``spare`` the last of several takes none.
    """
    parts = [torch.zeros(0, columns, dtype=torch.float64, device="cpu")]
    for number, batch in enumerate(batches):
        own = world.takes(number, spare)
        parts.append(double(look(number, batch)).cpu() if own else parts[0].new_zeros(data.batch_size(batch), columns))
    return world.sum_(torch.cat(parts))


def require_argument(task: Task, batch: Batch) -> None:
    """Raise BadInput where loss or metric call the task's own model, and not the module that they are given.

    Such as ``loss=lambda _, batch: cross_entropy(model(batch[0]), batch[1])``, with the caller's ``model``: whatever
    they were given would be no worse.
    """
    tensors, device = (*task.model.parameters(), *task.model.buffers()), home(task.model)
    other = twin(task.model, {id(tensor): tensor for tensor in tensors})
    parts = {f"own {k} {name}": part for k, m in enumerate((task.own, task.model)) for name, part in m.named_modules()}
    parts |= {f"given {name}": part for name, part in other.named_modules()}
    for what, function, given in (("loss", task.loss, batch), ("metric", task.metric, Copies([batch], device))):
        if function is None:
            continue
        with evaluating(task.own, task.model, other), capture(parts) as seen:
            try:
                function(other, data.copied(batch, device) if given is batch else given)
            except Exception:  # one batch may be too few for a metric
                continue
        called = {name.startswith("own ") for name, count in seen.calls.items() if count}
        if called == {True}:
            found = f"{what} calls the original model itself, whatever module it is given"
            raise BadInput(f"{found}: expected {what}(model, ...) to call its first argument")


def metric_of(task: Task, model: nn.Module, batches: Iterable[Batch]) -> float | None:
    """Return the task's metric, or mean score, of a model on batches; None where there is none or it is not finite.

    BadInput where the metric fails or returns something else than one number.
    """
    if task.score is not None:
        return Original(replace(task, model=model), batches, limit=0).metric
    if task.metric is None:
        return None
    try:
        with evaluating(model):
            value: Any = task.metric(model, Copies(batches, home(model)))
    except Exception as error:  # anything may come out of the caller's code; the cause stays attached
        if out_of_memory(error):
            raise
        raise BadInput(f"metric fails with {type(error).__name__}: {error}") from error
    try:
        number = float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise BadInput(f"metric returned {type(value).__name__}: expected one number") from error
    return finite(number)


def finite(number: float) -> float | None:
    """Return a number, or None in the place of what is none."""
    return number if math.isfinite(number) else None


class Copies(Sequence[Batch]):
    """Batches as copies on a device, made when one is asked for: whoever writes into one leaves the caller's as is."""

    def __init__(self, batches: Iterable[Batch], device: torch.device) -> None:
        self._batches: Any = batches
        self._device = device

    def __iter__(self) -> Iterator[Batch]:
        return (data.copied(batch, self._device) for batch in self._batches)

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: Any) -> Any:
        found = self._batches[index]
        return Copies(found, self._device) if isinstance(index, slice) else data.copied(found, self._device)
