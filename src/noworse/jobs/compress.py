"""The story of a compression: survey -> propose -> allocate -> tune -> write -> judge.

``compress`` is what users call. With a ``target`` the file lands within one per cent below it; with a ``tolerance``
alone the smallest file is sought that passes the paired test, guided by a part of ``calib`` that tuning does not see.
"""

from __future__ import annotations

import itertools
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from noworse.allocate.search import PowerLaw, Predictor, look, within
from noworse.errors import BadInput
from noworse.format import restamp
from noworse.jobs.draft import AIM, Draft, Terms, allocated, land
from noworse.jobs.job import Job, Output, isolated, seeded
from noworse.jobs.progress import show_progress
from noworse.jobs.report import Report
from noworse.judge.verdict import Verdict
from noworse.model.device import home, own_random
from noworse.model.load import load_model
from noworse.model.tensors import twin
from noworse.run.processes import ALONE, together
from noworse.run.resume import alike
from noworse.survey.subject import Subject
from noworse.task.data import Batch
from noworse.task.target import parse_target
from noworse.task.task import Task
from noworse.tune.options import Options, choose
from noworse.tune.progress import Progress

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from noworse.task.task import Extras

ROUNDS, ROUND_SHARE = 3, 0.4  # of the search within a tolerance, and their iterations as a share of the whole
BACK_OFF = 1.15  # growth of the budget after a look that failed
FIRST_BITS = 2.0  # bits per weight where the search starts


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
    seed: int | None = None,
    work: str | os.PathLike[str] | None = None,
    progress: Progress | None = show_progress,
    device: str | torch.device | None = None,
    **extras: Unpack[Extras],
) -> Report:
    """Compress ``model`` into the .nwt file ``out`` and judge the decoded file on ``verify``.

    ``loss(model, batch)`` returns per-sample losses (B,). ``calib`` holds unlabelled batches that choose, ``verify``
    held-out ones that judge. ``target`` is a ratio, "400KB" or "1.6 bits" per weight; ``tolerance`` the mean loss
    difference to stay under, in the loss's unit or "1%" of the original's mean loss (the default), and what decides
    the size where there is no target; with None a file of the target size is written whatever the verdict.
    ``preset`` names settings (tune/options.py) where ``options`` are not given; ``seed`` replaces theirs. ``work`` is a
    folder for checkpoints: the same call goes on there after it was interrupted, to the same file. ``device`` ("cuda",
    "mps", "cpu") is where copies of model and batches are worked on, that of the model if None. ``extras`` are further
    fields of ``Task``: metric or score, forward, distill, augment, keep, name.

    Raises BadInput for anything that cannot be used, and TargetMissed (with the best report) where target or tolerance
    could not be met. Source: L², Shi et al., ICCV 2023.
    """
    task = Task(model=model, loss=loss, calib=calib, verify=verify, **extras)
    asked: dict[str, Any] = {"target": target, "tolerance": tolerance, "options": options, "preset": preset}
    return compress_task(task, out, **asked, seed=seed, work=work, progress=progress, device=device)


def compress_task(
    task: Task,
    out: str | os.PathLike[str],
    *,
    target: float | str | None = None,
    tolerance: float | str | None = "1%",
    options: Options | None = None,
    preset: str = "default",
    seed: int | None = None,
    work: str | os.PathLike[str] | None = None,
    progress: Progress | None = show_progress,
    device: str | torch.device | None = None,
) -> Report:
    """Compress the model of a task, as ``compress`` does."""
    begin, options = time.monotonic(), seeded(choose(options, preset), seed)
    if target is None and tolerance is None:
        raise BadInput("neither target nor tolerance was given: expected one that decides the size of the file")
    world_of = together() if options.parallel else nullcontext(ALONE)
    with world_of as world, Output(out, world) as output, isolated(task, device, options) as moved:
        job = Job(moved, tolerance, options, world, progress)
        job.begin(work, {"options": options.to_json(), "target": target})
        with own_random(home(moved.model), options.seed):  # augment may draw from torch's generators; they stay
            draft, verdict = _story(job, output, target)
            report = _report(job, output, draft, verdict, begin)
        return job.finish(report, out, lambda *_: output.publish(), output.content)


def _story(job: Job, output: Output, target: float | str | None) -> tuple[Draft, Verdict]:
    """Make a file of the target size, or the smallest within the tolerance, beside its name, and judge it."""
    options, looks = job.options, 1 if target is not None else job.options.looks
    terms = Terms(options, job.progress, job.world, job.work, job.expected(looks))
    subject = Subject(job.task, job.calib, 0.0 if target is not None else options.development, options.seed)
    dense = Draft(subject, terms)  # survey every tensor, and propose a grid for each
    if target is None:
        draft, budget = _search(job, dense)  # allocate, tune a little and predict, a few times
        size = None
    else:
        size = _size(target, dense)
        budget = 8.0 * AIM * size
        draft = allocated(dense, budget, "plan")  # allocate: which layers are products of two grids instead

    def files() -> Iterator[tuple[int, Draft]]:
        for number in itertools.count(1):
            bits = budget * BACK_OFF ** (number - 1)
            if f"look {number}" not in job.work.notes:
                _tune(draft, bits, options.iterations, "tune" if looks == 1 else f"tune, look {number}", looks == 1)
                _write(job, output, draft, size or int(bits / 8 / AIM))
                yield number, draft

    return look(files(), lambda draft, number: _judge(job, output, draft, number, looks), looks)


def _search(job: Job, dense: Draft) -> tuple[Draft, float]:
    """The draft and the budget in bits of the smallest file whose predicted bound stays under the tolerance."""
    options, world, draft = dense.terms.options, job.world, dense
    predictor = Predictor(dense.subject, job.samples, options.confidence, options.looks)
    dense.settings["tolerance"] = str(job.tolerance)
    line = PowerLaw(FIRST_BITS * dense.grids.count + 8.0 * dense.floor())

    def attempt(budget: float, number: int) -> None:
        nonlocal draft
        draft = allocated(dense, budget, f"plan {number}")
        iterations = int(ROUND_SHARE * options.iterations)
        _tune(draft, budget, iterations, f"search {number}/{ROUNDS}")

    def bound() -> float:
        line.at, line.floor, line.least = draft.tuner.bits(), 8.0 * draft.floor(), 8.0 * draft.least()
        return predictor.bound(draft.student)

    def positive(bits: Any) -> bool:
        return alike(bits, 0.0) and 0 < bits < math.inf

    def note(name: str, action: Callable[[], float]) -> float:
        return float(job.work.note(name, lambda: world.agree(action()), positive))

    within(line, attempt, bound, job.limit, ROUNDS, note)
    return draft, line.at


def _size(target: float | str, dense: Draft) -> int:
    """The bytes that a target means; BadInput where no file can be as small."""
    size = parse_target(target, dense.subject.original_bytes, dense.grids.count)
    dense.check_reachable(size, f"target {target!r} means {size} bytes")
    dense.settings["target"] = str(target)
    return size


def _tune(draft: Draft, budget: float, iterations: int, stage: str, last: bool = False) -> None:
    """Start towards a budget in bits, and tune; the ``last`` start of a draft needs no memory for another."""
    draft.start(budget)
    if last:
        draft.forget_start()
    draft.tuner.run(budget, iterations, stage)


def _write(job: Job, output: Output, draft: Draft, size: int) -> None:
    """Write the draft to a file of at most ``size`` bytes that is not published yet."""
    items = land(draft, size)
    job.tell("write and verify")
    output.write(items, draft.settings, job.options.coder)


def _judge(job: Job, output: Output, draft: Draft, number: int, looks: int) -> Verdict:
    """The verdict on the file as it was written, decoded into the user's class; the file then holds it."""
    if looks == 1:  # two further models are to be held: the decoded tensors, and the module they go into
        draft.release()
    with output.everywhere() as path:
        module = load_model(twin(job.task.model), path)
    verdict = job.judge(module, number, looks)
    job.world.lead(lambda: restamp(output.partial, verdict.record()))
    if not verdict.passed and number < looks:  # after the last one there is nothing to go on to
        job.work.note(f"look {number}", verdict.record)
    return verdict


def _report(job: Job, output: Output, draft: Draft, verdict: Verdict, begin: float) -> Report:
    size = job.world.lead(lambda: output.partial.stat().st_size)
    seconds, spent = job.world.agree([time.monotonic() - begin, draft.tuner.seconds])
    ranks = draft.plan.ranks() if job.options.methods == "auto" else None
    return Report(
        str(output.path), size, draft.subject.original_bytes, verdict, seconds, draft.settings, tuple(draft.folded),
        tuple(draft.survey.unused), spent, ranks, draft.plan.families(),
    )  # fmt: skip
