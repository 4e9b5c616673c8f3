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
from noworse.task.task import Loss, Task

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from noworse.task.task import Extras


def verify(
    path: str | Path,
    model: nn.Module,
    loss: Loss,
    data: Iterable[Batch],
    *,
    tolerance: float | str = "1%",
    task: Task | None = None,
    look: int = 1,
    looks: int = 1,
    confidence: float = 0.95,
    **extras: Unpack[Extras],
) -> Verdict:
    """Judge the .nwt file at ``path`` against the original ``model`` on held-out ``data`` of at least 30 samples.

    ``loss(model, batch)`` returns one loss per sample, (B,); ``tolerance`` is in its unit, or "1%" of the original's
    mean loss. This is number ``look`` of the ``looks`` at these samples that were declared before the first; they
    share the chance of error. Samples are taken to be independent. ``extras`` are further fields of ``Task``
    (metric, forward, distill); or ``task`` gives them. Batches are read one at a time. Raises BadInput for data or
    losses that cannot be used, CorruptFile, MismatchedModule.
    """
    task = task or Task(model=model, loss=loss, calib=(), verify=(), **extras)
    # read twice for a metric: an iterator would be empty the second time
    batches = list(data) if task.metric is not None and isinstance(data, Iterator) else data
    candidate, original = load_model(twin(task.model), path), Original(task, batches, limit=0)
    return verify_module(candidate, original, tolerance=tolerance, confidence=confidence, look=look, looks=looks)


def verify_module(candidate: nn.Module, original: Original, *, tolerance: float | str = "1%", **asked: Any) -> Verdict:
    """Judge a module in memory against an ``original`` on its batches; ``asked``: confidence, look, looks."""
    task, batches = original.task, original.batches
    observer = Observer(candidate, task.loss, task.forward, task.distill == "kl", "the compressed model")
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
