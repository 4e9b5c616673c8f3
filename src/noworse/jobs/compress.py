"""The story of a compression: survey, start, tune, write, verify.

``compress`` is what users call. With a ``target`` the file lands within one per cent below it; with a ``tolerance``
alone the smallest file is sought that passes the paired test, guided by a part of ``calib`` that tuning does not see.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from noworse.errors import BadInput, TargetMissed
from noworse.jobs.job import Job
from noworse.jobs.progress import show_progress
from noworse.jobs.report import Report
from noworse.run.processes import ALONE, together
from noworse.task.data import Batch
from noworse.task.task import Task
from noworse.tune.options import Options
from noworse.tune.presets import choose
from noworse.tune.tuner import Progress


def compress(
    model: nn.Module,
    *,
    loss: Callable[[nn.Module, Batch], Tensor],
    calib: Iterable[Batch],
    verify: Iterable[Batch],
    out: str | os.PathLike[str],
    target: float | str | None = None,
    tolerance: float | str | None = "1%",
    options: Options | None = None,
    preset: str = "default",
    work: str | os.PathLike[str] | None = None,
    progress: Progress | None = show_progress,
    **extras: Any,
) -> Report:
    """Compress ``model`` into the .nwt file ``out`` and judge the decoded file on ``verify``.

    ``loss(model, batch)`` returns per-sample losses (B,). ``calib`` holds unlabelled batches that choose, ``verify``
    held-out ones that judge. ``target`` is a ratio, "400KB" or "1.6 bits" per weight; ``tolerance`` the mean loss
    difference to stay under, in the loss's unit or "1%" of the original's mean loss (the default), and what decides
    the size where there is no target; with None a file of the target size is written whatever the verdict.
    ``preset`` names settings (see presets.py) where ``options`` are not given.
    ``work`` is a folder for checkpoints: the same call goes on there after it was interrupted, to the same file.
    ``extras`` are further fields of ``Task``: metric, forward, distill, augment, keep.

    Raises BadInput for anything that cannot be used, and TargetMissed (with the best report) where target or tolerance
    could not be met. Source: L², Shi et al., ICCV 2023.
    """
    task = Task(model=model, loss=loss, calib=calib, verify=verify, **extras)
    settings: dict[str, Any] = {"options": options, "preset": preset, "work": work, "progress": progress}
    return compress_task(task, out, target=target, tolerance=tolerance, **settings)


def compress_task(
    task: Task,
    out: str | os.PathLike[str],
    *,
    target: float | str | None = None,
    tolerance: float | str | None = "1%",
    options: Options | None = None,
    preset: str = "default",
    work: str | os.PathLike[str] | None = None,
    progress: Progress | None = show_progress,
) -> Report:
    """``compress`` for a Task."""
    begin, options = time.monotonic(), choose(options, preset)
    with together() if options.parallel else nullcontext(ALONE) as ranks:
        if target is None and tolerance is None:
            raise BadInput("neither target nor tolerance was given: expected one that decides the size of the file")
        job = Job(task, out, options, progress or (lambda step: None), ranks)
        job.begin(work, target, tolerance)
        return _run(job, target, tolerance, begin)


def _run(job: Job, target: float | str | None, tolerance: float | str | None, begin: float) -> Report:
    limit = "1%" if tolerance is None else tolerance
    try:
        with torch.random.fork_rng(devices=[]):  # augment may draw from torch's generator; the caller's stays as it was
            torch.default_generator.manual_seed(job.options.seed)
            verdict = job.within(limit) if target is None else job.at_target(target, limit)
        report = job.report(verdict, time.monotonic() - begin)
        if not verdict.passed and tolerance is not None:
            missed = TargetMissed(f"the tolerance was not met: {verdict}", report, job.content())
            job.work.clean()
            raise missed
        job.publish()
        job.work.clean()
    finally:
        job.clean()
    return report
