"""The judge: is the model decoded from a written file no worse than the original on held-out data?

What is judged is the file, not the model in memory that it was made from. Loss alone can hide damage, so the share of
changed predictions, the KL divergence to the original and the expected acceptance rate are reported beside it. Losses
are compared in pairs, sample by sample, over the same batches.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.errors import BadInput
from noworse.judge.original import Observer, Original, Seen, evaluating, finite, gathered, metric_of
from noworse.judge.verdict import MINIMUM_SAMPLES, Verdict, judge, lower_bound, parse_tolerance
from noworse.model.device import double, home, room, steady
from noworse.model.load import load_model
from noworse.model.tensors import twin
from noworse.run.processes import ALONE, World
from noworse.task import data as batches_of
from noworse.task.data import Batch
from noworse.task.distances import are_logits
from noworse.task.task import Extras, Forward, Loss, Task

if TYPE_CHECKING:
    from typing_extensions import Unpack


METRICS = ("metric_original", "metric_compressed")
CHUNK = 1 << 22  # logits contrasted at a time: 32 MB each in float64


@dataclass(frozen=True)
class Comparison:
    """Per-sample arrays (N,) over all batches; those after the losses are None where the outputs are no logits."""

    original: NDArray[np.float64]  # losses of the original
    compressed: NDArray[np.float64]  # losses of the candidate
    changed: NDArray[np.float64] | None = None  # share of positions (1 for (B, K) logits) whose argmax differs
    kl: NDArray[np.float64] | None = None  # KL(original || candidate) in nats, mean over positions
    ear: NDArray[np.float64] | None = None  # expected acceptance rate (see ``contrast``), mean over positions
    scores: NDArray[np.float64] | None = None  # (2, N) of original and candidate, where there are scores


def compare(
    original: nn.Module,
    candidate: nn.Module,
    loss: Loss,
    batches: Iterable[Batch],
    forward: Forward | None = None,
    distill: str = "kl",
) -> Comparison:
    """Compare two models on the same batches, in eval mode, with one forward pass per model and batch where possible.

    Outputs are those of the model's own call inside ``loss``. Where ``forward`` is given, or ``loss`` calls the model
    not at all or several times, a further pass of ``forward`` (default ``noworse.task.data.forward``) yields them.
    Predictions are compared where outputs are logits, as ``distill="kl"`` says, of at least 2 classes. Raises BadInput
    for a loss that is not one finite number per sample, naming found and expected.
    """
    wanted = are_logits(distill)
    with evaluating(original):
        first = Observer(original, loss, forward, wanted, "the original model")
        return paired(first, Observer(candidate, loss, forward, wanted, "the compressed model"), batches)


def paired(
    original: Callable[[int, Batch], Seen],
    candidate: Observer,
    batches: Iterable[Batch],
    world: World = ALONE,
    spare: bool = False,
) -> Comparison:
    """Compare a model with what the original (an ``Original`` or an ``Observer``) made of the same batches.

    Ranks of a ``world`` share them as in ``gathered``.
    """

    def look(index: int, batch: Batch) -> Tensor:
        """Both losses, both scores, what ``contrast`` finds, and whether that is known: (B, 8)."""
        first, second = original(index, batch), candidate(index, batch)
        rows = torch.zeros(len(first.losses), 8, dtype=torch.float64, device="cpu")
        rows[:, 0], rows[:, 1] = first.losses, second.losses
        if first.scores is not None and second.scores is not None:
            rows[:, 2], rows[:, 3] = first.scores, second.scores
        if first.logits is not None and second.logits is not None and first.logits.shape == second.logits.shape:
            rows[:, 4:7] = torch.stack(contrast(first.logits, second.logits), 1)
            rows[:, 7] = 1
        return rows

    with evaluating(candidate.model):
        columns = gathered(batches, look, 8, world, spare).numpy().T.copy()
    changed, kl, ear = columns[4:7] if len(columns[7]) and columns[7].all() else (None, None, None)
    return Comparison(columns[0], columns[1], changed, kl, ear, None if candidate.score is None else columns[2:4])


def contrast(original: Tensor, candidate: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return share of positions with another argmax, KL(original || candidate) in nats and acceptance rate, each (B,).

    Logits are (B, ..., K); the latter two are means over positions. The expected acceptance rate is Σ min(p, q) over
    the classes, the share of draws from one model that can be draws from the other: 1 less their total variation
    distance (Leviathan, Kalman and Matias, Fast inference from transformers via speculative decoding, 2023, section 3).
    """
    rows = max(1, CHUNK // original[0].numel())
    parts = []
    for a, b in zip(torch.split(original, rows), torch.split(candidate, rows), strict=True):
        log_p, log_q = F.log_softmax(double(a), -1), F.log_softmax(double(b), -1)
        terms = torch.where(log_p > -torch.inf, log_p.exp() * (log_p - log_q), 0.0)  # masked classes count nothing
        kl = terms.sum(-1).clamp_min(0.0)  # rounding alone makes it negative
        accepted = torch.minimum(log_p, log_q).exp().sum(-1).clamp_max(1.0)
        parts.append([x.reshape(len(a), -1).mean(1) for x in (double(a.argmax(-1) != b.argmax(-1)), kl, accepted)])
    changed, divergence, acceptance = map(torch.cat, zip(*parts, strict=True))
    return changed, divergence, acceptance


class VerifyExtras(Extras, total=False):
    """Keyword arguments of ``verify``: fields of a ``Task``, and which of several looks at the data this is."""

    confidence: float  # of the bounds: 0.95 where it is not given
    look: int  # number of this look at the samples: 1
    looks: int  # that were declared before the first: 1
    device: str | torch.device | None  # where model and batches are moved: where the model is


def verify(
    path: str | Path,
    model: nn.Module,
    loss: Loss,
    data: Iterable[Batch],
    *,
    tolerance: float | str = "1%",
    **extras: Unpack[VerifyExtras],
) -> Verdict:
    """Judge the .nwt file at ``path`` against the original ``model`` on held-out ``data`` of at least 30 samples.

    ``loss(model, batch)`` returns one loss per sample, (B,); ``tolerance`` is in its unit, or "1%" of the original's
    mean loss. ``extras`` are ``confidence``, ``look``, ``looks`` and ``device`` (see ``verify_task``) and further
    fields of ``Task``: metric or score, forward, distill. Raises what ``verify_task`` does.
    """
    given: dict[str, Any] = dict(extras)
    asked = {name: given.pop(name) for name in ("confidence", "look", "looks", "device") if name in given}
    return verify_task(path, Task(model=model, loss=loss, calib=(), verify=data, **given), tolerance=tolerance, **asked)


def verify_task(
    path: str | Path,
    task: Task,
    *,
    tolerance: float | str = "1%",
    confidence: float = 0.95,
    look: int = 1,
    looks: int = 1,
    device: str | torch.device | None = None,
) -> Verdict:
    """Judge the .nwt file at ``path`` against the model of a task on its ``verify``, as ``verify`` does.

    This is number ``look`` of the ``looks`` at these samples that were declared before the first; they share the
    chance of error, 1 − ``confidence``. Samples are taken to be independent; batches are read one at a time. Both
    models run on ``device``, or where the task's is. Raises BadInput for data, losses or a device that cannot be used,
    CorruptFile, MismatchedModule.
    """
    task = task.on(device)
    # read twice for a metric: an iterator would be empty the second time
    batches = list(task.verify) if task.metric is not None and isinstance(task.verify, Iterator) else task.verify
    with steady(home(task.model)), room(lambda: "smaller batches of verify"):
        candidate, original = load_model(twin(task.model), path), Original(task, batches, limit=0)
        return verify_module(candidate, original, tolerance=tolerance, confidence=confidence, look=look, looks=looks)


def verify_module(candidate: nn.Module, original: Original, *, tolerance: float | str = "1%", **asked: Any) -> Verdict:
    """Judge a module in memory against an ``original`` on its batches; ``asked``: confidence, look, looks."""
    task, batches = original.task, original.batches
    observer = Observer.of(task, candidate, "the compressed model")
    world = original.world

    @functools.cache
    def metric() -> list[Any]:
        try:
            return [metric_of(task, candidate, batches), None]
        except BadInput as error:  # no file should be lost to it
            return [None, str(error)]

    if world.last and world.size > 1:  # while the others are at the losses
        metric()
    with evaluating(task.model):
        found = paired(original, observer, batches_of.checked(batches, "verify"), world, original.spare)
    batches_of.require(len(found.original), "verify", MINIMUM_SAMPLES)
    limit = parse_tolerance(tolerance, float(found.original.mean()))
    told, failed = dict[str, Any](), None
    if found.scores is not None:
        told |= {name: finite(float(each.mean())) for name, each in zip(METRICS, found.scores, strict=True)}
    elif task.metric is not None:
        own, failed = world.agree(metric() if world.last else None, world.size - 1)
        told |= dict(zip(METRICS, (original.metric, own), strict=True))
    if failed:
        warnings.warn(f"of the compressed model, which is judged without it, {failed}", stacklevel=2)
    for name, values in (("changed", found.changed), ("mean_kl", found.kl), ("ear", found.ear)):
        if values is not None and math.isfinite(values.mean()):
            told[name] = float(values.mean())
    if found.ear is not None and "ear" in told:
        told["ear_bound"] = max(0.0, lower_bound(found.ear, **asked))
    return replace(judge(found.original, found.compressed, limit, **asked), **told)
