"""One compression from checked inputs to a judged file: to a target size, or as small as a tolerance allows."""

from __future__ import annotations

import copy
import functools
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from noworse.allocate.predict import Predictor, next_budget
from noworse.errors import BadInput
from noworse.format import restamp, write
from noworse.io import load_model
from noworse.jobs.report import Report
from noworse.jobs.workspace import Workspace
from noworse.judge.original import Original
from noworse.judge.verdict import Verdict, chance_of_error, parse_tolerance
from noworse.judge.verify import verify_module
from noworse.propose.ranks.joint import Plans, climb
from noworse.propose.ranks.student import GRIDS_ALONE, Plan
from noworse.representation import Representation
from noworse.run import fingerprint
from noworse.run.processes import ALONE, Ranks
from noworse.run.resume import NOWHERE, Work
from noworse.task import data
from noworse.task.data import Batch
from noworse.task.target import parse_target
from noworse.task.task import Task
from noworse.tune.options import Options
from noworse.tune.tuner import Progress, Step

AIM, LANDING = 0.996, 0.992  # of the target: where tuning aims, and the least size before the verdict is known
KNOBS = (("shift", 0.25), ("log_scale", 0.5), ("log_scale", 8.0))  # what may be turned at the end, and how far
BISECTIONS = 12
ROUNDS, ROUND_SHARE = 3, 0.4  # of the search within a tolerance, and their iterations as a share of the whole
BACK_OFF = 1.15  # growth of the budget after a verification that failed
FIRST_BITS = 2.0  # bits per weight where the search starts


def check_writable(path: Path) -> None:
    """Raise BadInput where a file cannot be made at ``path``, before any work is done."""
    folder = path.resolve().parent
    if path.is_dir() or not folder.is_dir() or not os.access(folder, os.W_OK):
        raise BadInput(f"cannot write {path}: expected a file name in an existing, writable folder")


class Job:
    """Inputs are checked on construction; ``at_target`` or ``within`` then make a judged file beside ``out``.

    ``publish`` then moves it to its name; ``clean`` removes it if that did not happen. Among several ``ranks`` the
    first one alone writes, judges and removes.
    """

    def __init__(
        self, task: Task, out: str | os.PathLike[str], options: Options, progress: Progress, ranks: Ranks = ALONE
    ) -> None:
        self.task, self.options, self.ranks = task, options, ranks
        self.progress = progress if ranks.first else (lambda step: None)
        self.path = Path(out)
        self.partial = self.path.with_name(self.path.name + ".partial")
        if ranks.first:
            check_writable(self.path)
        self.calib, self.verify = data.disjoint(task.calib, task.verify)
        self.samples = sum(data.batch_size(batch) for batch in self.verify)
        self.work = Work(None, {}, ranks)
        self.looks = 1  # at verify, declared before the first
        self.original = Original(task, self.verify)
        # a metric that fails is better known before the work than after it
        self.original_loss, _ = ranks.lead(lambda: [self.original.mean_loss, self.original.metric])

    def begin(self, folder: str | os.PathLike[str] | None, target: object, tolerance: object) -> None:
        """Make sure that all ranks were given the same; keep checkpoints in ``folder``, and go on from one there.

        BadInput where ranks were not, or where the folder holds another run.
        """
        if folder is None and self.ranks.size == 1:
            return
        task = self.task
        given = {"the model": fingerprint.of_module(task.model), "calib": fingerprint.of_batches(self.calib)}
        given |= {"options": self.options.to_json(), "target": str(target), "tolerance": str(tolerance)}
        given |= {"distill": str(task.distill), "keep": str(list(task.keep))}
        self.ranks.require_same(given)
        own = {"verify": fingerprint.of_batches(self.verify), "the number of processes": self.ranks.size}
        self.work = Work(folder, {**given, **own}, self.ranks)

    def _allocated(self, dense: Workspace, calib: list[Batch], tolerance: float, budget: float, note: str) -> Workspace:
        """The workspace to tune in towards ``budget`` bits: ``dense``, or one with layers in factors.

        A knapsack over the bits and the predicted loss of each layer's grids and products makes plans; a little tuning
        decides among them. Where no layer gains by factors, the file is the one that grids alone make.
        """
        analyses = dense.plan.analyses
        if not analyses:
            return dense

        def tuned(plan: Plans, share: float) -> float:
            trial = self._workspace(calib, tolerance, NOWHERE, Plan(analyses, plan))
            trial.start(budget)
            with torch.random.fork_rng(devices=[]):  # all plans, and the run itself, see the same augmented batches
                trial.tuner.run(budget, int(share * self.options.iterations), note)
            return trial.tuned_loss()

        def choose() -> Any:
            weights = sum(analysis.layer.weight.numel() for analysis in analyses.values())
            limit = dense.code_bits(budget) * weights / dense.grids.count
            return self.ranks.agree(climb(analyses, limit, tuned))

        chosen = {name: (way, rank) for name, (way, rank) in self.work.note(note, choose).items()}
        if not chosen:
            return dense
        workspace = self._workspace(calib, tolerance, self.work, Plan(analyses, chosen))
        workspace.settings |= dense.settings
        return workspace

    def _workspace(self, calib: list[Batch], tolerance: float, work: Work, plan: Plan = GRIDS_ALONE) -> Workspace:
        """A workspace whose measurements include a verdict as long as any of these samples can be."""
        workspace = Workspace(self.task, calib, self.options, self.progress, self.ranks, work, plan)
        unknown = ["compressed_loss", "mean_difference", "upper_bound", "lower_bound"]
        unknown += ["metric_original", "metric_compressed"] if self.task.metric is not None else []
        unknown += ["changed", "mean_kl"] if self.task.distill == "kl" else []
        known = {"original_loss": self.original_loss, "tolerance": tolerance, "confidence": self.options.confidence}
        digits = {name: (-1) ** k * (1.23457 + 0.10351 * k) * 1e-5 for k, name in enumerate(unknown)}
        verdict = Verdict("inconclusive", self.samples, look=self.looks, looks=self.looks, **known, **digits)
        workspace.verdict = verdict.record()
        return workspace

    def at_target(self, target: float | str, tolerance: float | str) -> Verdict:
        """Tune to a file just below the target size and judge it."""
        limit = parse_tolerance(tolerance, self.original_loss)
        workspace = self._workspace(self.calib, limit, self.work)
        size = parse_target(target, workspace.original_bytes, workspace.grids.count)
        workspace.check_reachable(size, f"target {target!r} means {size} bytes")
        workspace.settings["target"] = str(target)
        workspace = self._allocated(workspace, self.calib, limit, 8.0 * AIM * size, "plan")
        workspace.start(8.0 * AIM * size)
        workspace.forget_start()
        workspace.tuner.run(8.0 * AIM * size, self.options.iterations)
        return self._judge(workspace, land(workspace, size), limit)

    def within(self, tolerance: float | str) -> Verdict:
        """Find the smallest size whose predicted bound stays under the tolerance, and judge it; back off on failure.

        The prediction is made on the part of calib that tuning does not see; a verification chooses nothing but
        whether to back off, and each further one is counted against the confidence.
        """
        limit, self.looks = parse_tolerance(tolerance, self.original_loss), self.options.looks
        tune_on, held_back = data.split(self.calib, self.options.development, self.options.seed)
        workspace = self._workspace(tune_on, limit, self.work)
        workspace.settings["tolerance"] = str(tolerance)
        predictor = Predictor(self.task, workspace, held_back, self.samples, self._certainty())
        budget = FIRST_BITS * workspace.grids.count + 8.0 * workspace.floor()
        dense = workspace
        for round_ in range(1, ROUNDS + 1):
            workspace = predictor.workspace = self._allocated(dense, tune_on, limit, budget, f"plan {round_}")
            workspace.start(budget)
            workspace.tuner.run(budget, int(ROUND_SHARE * self.options.iterations), f"search {round_}/{ROUNDS}")
            budget = self.work.note(f"budget {round_}", functools.partial(self._next, workspace, predictor, limit))
        for look in range(1, self.looks + 1):
            if f"look {look}" in self.work.notes:
                budget *= BACK_OFF
                continue
            workspace.start(budget)
            workspace.tuner.run(budget, self.options.iterations, f"tune, look {look}")
            verdict = self._judge(workspace, land(workspace, int(budget / 8 / AIM)), limit, look)
            if verdict.passed:
                break
            self.work.note(f"look {look}", verdict.record)
            budget *= BACK_OFF
        return verdict

    def _certainty(self) -> float:
        """The confidence of the first look, which is to pass."""
        return 1 - chance_of_error(self.options.confidence, 1, self.looks)

    def _next(self, workspace: Workspace, predictor: Predictor, limit: float) -> float:
        """The budget in bits after a round of the search."""
        found = next_budget(workspace.tuner.bits(), predictor.bound(), limit, 8.0 * workspace.floor())
        return float(self.ranks.agree(max(found, 8.0 * workspace.least())))

    def _judge(
        self,
        workspace: Workspace,
        items: Mapping[str, Representation],
        tolerance: float,
        look: int = 1,
    ) -> Verdict:
        def judged() -> list[Any]:
            self.progress(Step("write and verify", 0, 1, 0, 0, 0, 0))
            write(self.partial, items, workspace.settings, coder=self.options.coder)
            if self.looks == 1:  # two further models are to be held: the decoded tensors, and the module they go into
                workspace.release()
            candidate = load_model(copy.deepcopy(self.task.model), self.partial)
            settings: dict[str, Any] = {"look": look, "looks": self.looks, "confidence": self.options.confidence}
            verdict = verify_module(candidate, self.original, tolerance=tolerance, **settings)
            return [verdict.to_json(), restamp(self.partial, verdict.record())]

        verdict, self.size = self.ranks.lead(judged)
        self.workspace = workspace
        return Verdict.from_json(verdict)

    def report(self, verdict: Verdict, seconds: float) -> Report:
        """What was done, with the verdict on it."""
        seconds, spent = self.ranks.agree([seconds, self.workspace.tuner.seconds])
        return Report(
            str(self.path),
            self.size,
            self.workspace.original_bytes,
            verdict,
            seconds,
            self.workspace.settings,
            tuple(self.workspace.folded),
            tuple(self.workspace.unused),
            spent,
            self.workspace.plan.ranks() if self.options.methods == "auto" else None,
            self.workspace.plan.families(),
        )

    def publish(self) -> None:
        """Move the judged file to its name."""
        self.ranks.lead(lambda: str(self.partial.replace(self.path)))

    def content(self) -> bytes:
        """The bytes of the judged file."""
        return self.ranks.send(self.partial.read_bytes() if self.ranks.first else b"")

    def clean(self) -> None:
        """Remove what is left beside ``out``; checkpoints stay, so that an interrupted run can go on."""
        if self.ranks.first:
            self.partial.unlink(missing_ok=True)


def land(workspace: Workspace, size: int) -> Mapping[str, Representation]:
    """The tensors as they are to be written, in a file as large as possible yet at most ``size`` bytes.

    Tuning ends near the size and settles between its bounds. Only where that fails (after too few iterations, or none)
    are all rounding boundaries shifted alike, or all steps scaled; if even the finest leave the file below the size,
    they are taken.
    """
    least = math.ceil(LANDING * size)
    settled = workspace.options.iterations and workspace.tuner.settle(least, size)
    if settled or least <= workspace.measure() <= size:
        workspace.refine(least, size)
        return workspace.items()
    knob = _turned(workspace, size)
    return workspace.items() if workspace.turn(knob, least, size) else workspace.items(**knob)


def _turned(workspace: Workspace, size: int) -> dict[str, float]:
    """The setting of a knob that makes the largest file of at most ``size`` bytes."""
    for knob, reach in KNOBS:
        low, high = {knob: -reach}, {knob: reach}  # too large, small enough
        if workspace.measure(**low) < LANDING * size or workspace.measure(**high) > size:
            continue
        for _ in range(BISECTIONS):
            middle = {knob: 0.5 * (low[knob] + high[knob])}
            found = workspace.measure(**middle)
            low, high = (middle, high) if found > size else (low, middle)
            if LANDING * size <= found <= size:
                break
        return high
    coarsest = workspace.measure(**high)
    if coarsest > size:
        raise BadInput(f"no grid brings the file to {size} bytes: the coarsest found has {coarsest}")
    return low
