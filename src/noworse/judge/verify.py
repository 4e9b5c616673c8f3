"""The judge: is the model decoded from a written file no worse than the original on held-out data?

What is judged is the file, not the model in memory that it was made from. Loss alone can hide damage, so the share of
changed predictions and the KL divergence to the original are reported beside it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from noworse.errors import BadInput
from noworse.judge.compare import paired
from noworse.judge.original import Observer, Original, evaluating, metric_of
from noworse.judge.verdict import MINIMUM_SAMPLES, Verdict, judge, parse_tolerance
from noworse.model.load import load_model
from noworse.model.tensors import twin
from noworse.task import data as batches_of
from noworse.task.data import Batch
from noworse.task.distances import are_logits
from noworse.task.task import Extras, Loss, Task

if TYPE_CHECKING:
    from typing_extensions import Unpack


class VerifyExtras(Extras, total=False):
    """Keyword arguments of ``verify``: fields of a ``Task``, and which of several looks at the data this is."""

    confidence: float  # of the bounds: 0.95 where it is not given
    look: int  # number of this look at the samples: 1
    looks: int  # that were declared before the first: 1


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
    mean loss. ``extras`` are ``confidence``, ``look`` and ``looks`` (see ``verify_task``) and further fields of
    ``Task``: metric, forward, distill. Raises what ``verify_task`` does.
    """
    given: dict[str, Any] = dict(extras)
    asked = {name: given.pop(name) for name in ("confidence", "look", "looks") if name in given}
    return verify_task(path, Task(model=model, loss=loss, calib=(), verify=data, **given), tolerance=tolerance, **asked)


def verify_task(
    path: str | Path,
    task: Task,
    *,
    tolerance: float | str = "1%",
    confidence: float = 0.95,
    look: int = 1,
    looks: int = 1,
) -> Verdict:
    """Judge the .nwt file at ``path`` against the model of a task on its ``verify``, as ``verify`` does.

    This is number ``look`` of the ``looks`` at these samples that were declared before the first; they share the
    chance of error, 1 − ``confidence``. Samples are taken to be independent; batches are read one at a time. Raises
    BadInput for data or losses that cannot be used, CorruptFile, MismatchedModule.
    """
    # read twice for a metric: an iterator would be empty the second time
    batches = list(task.verify) if task.metric is not None and isinstance(task.verify, Iterator) else task.verify
    candidate, original = load_model(twin(task.model), path), Original(task, batches, limit=0)
    return verify_module(candidate, original, tolerance=tolerance, confidence=confidence, look=look, looks=looks)


def verify_module(candidate: nn.Module, original: Original, *, tolerance: float | str = "1%", **asked: Any) -> Verdict:
    """Judge a module in memory against an ``original`` on its batches; ``asked``: confidence, look, looks."""
    task, batches = original.task, original.batches
    observer = Observer(candidate, task.loss, task.forward, are_logits(task.distill), "the compressed model")
    with evaluating(task.model):
        found = paired(original, observer, batches_of.checked(batches, "verify"))
    batches_of.require(len(found.original), "verify", MINIMUM_SAMPLES)
    limit = parse_tolerance(tolerance, float(found.original.mean()))
    told: dict[str, Any] = {"metric_original": original.metric}
    try:
        told["metric_compressed"] = metric_of(task, candidate, batches)
    except BadInput as error:  # no file should be lost to it
        warnings.warn(f"of the compressed model, which is judged without it, {error}", stacklevel=2)
    for name, values in (("changed", found.changed), ("mean_kl", found.kl)):
        if values is not None and math.isfinite(values.mean()):
            told[name] = float(values.mean())
    return replace(judge(found.original, found.compressed, limit, **asked), **told)
