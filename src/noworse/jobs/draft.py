"""A compressed model in the making: a student whose tensors are on grids, and the file that they would make.

``allocated`` proposes which of its layers are products of two grids; ``land`` ends with a file just below its size.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.format import Lazy, packed_size
from noworse.jobs.lesson import Lesson
from noworse.jobs.survey import Survey, curvature, survey
from noworse.model.device import own_random
from noworse.model.tensors import state_tensors
from noworse.propose.grids.compensated import equal_slope_steps
from noworse.propose.grids.grid import GridSet
from noworse.propose.grids.layers import Layers
from noworse.propose.grids.specs import fixed_items, grid_set, grid_specs, gridded
from noworse.propose.grids.untuned import Untuned
from noworse.propose.ranks.candidates import Analysis, as_matrix
from noworse.propose.ranks.joint import Plans, climb
from noworse.propose.ranks.student import GRIDS_ALONE, Plan, factor
from noworse.representation import Representation
from noworse.run.memory import recompute_blocks, trim
from noworse.run.processes import ALONE, World
from noworse.run.resume import NOWHERE, Work, alike
from noworse.survey.subject import Subject
from noworse.tune.options import Options
from noworse.tune.progress import Progress, stage
from noworse.tune.start import Ground, refine, turn
from noworse.tune.tuner import Hooks, Tuner

FLOOR_MARGIN = 1.02
NOTHING = Survey()
AIM, LEAST = 0.996, 0.992  # of the target: where tuning aims, and the least size before the verdict is known
KNOBS = (("shift", 0.25), ("log_scale", 0.5), ("log_scale", 8.0))  # what may be turned at the end, and how far
BISECTIONS = 12


@dataclass(frozen=True)
class Terms:
    """What all drafts of a job share: options, who hears of progress, the processes, and where checkpoints go."""

    options: Options
    progress: Progress = lambda step: None
    world: World = ALONE
    work: Work = NOWHERE
    verdict: Mapping[str, Any] | None = None  # what measurements of a file take its verdict to be

    def trial(self) -> Terms:
        """Return the same terms for a draft that is only tried: no checkpoint is of it."""
        return replace(self, work=NOWHERE)


class Draft:
    """The student of a ``plan``, surveyed, on grids; ``tuner`` moves them, ``items`` are the tensors of the file.

    ``known`` is the survey of another draft of the same subject: only what is new in this plan is surveyed.
    """

    def __init__(self, subject: Subject, terms: Terms, plan: Plan = GRIDS_ALONE, known: Survey = NOTHING) -> None:
        self.subject, self.terms, options = subject, terms, terms.options
        scales: dict[str, list[Tensor]] = {}
        self.student, self.folded = subject.folded(scales)
        if options.checkpointing:
            recompute_blocks(self.student)
        self.lesson = Lesson(subject, self.student, options, terms.world)
        analyses = known.analyses
        if options.methods == "auto" and not plan.chosen:
            analyses = curvature(self.lesson, self.student)
        with torch.no_grad():
            self.factored = factor(self.student, plan)
        self.originals = dict(subject.originals)
        for name, factors in self.factored.products.items():
            self.originals |= dict.fromkeys((factors.left, factors.right), self.originals[name])
        self.originals |= {new: self.originals[old] for new, old in self.factored.renamed.items()}
        self.grids, self.fixed = self._propose(known.renamed(self.factored.renamed))
        self.survey.analyses = analyses
        self.plan = Plan(analyses, plan.chosen)
        self.settings = self._settings(options)
        self._prepare(options, scales)

    def _propose(self, known: Survey) -> tuple[GridSet, dict[str, Representation]]:
        """A grid for every parameter that can have one, by what the survey says; all other tensors as they are."""
        entries, kept = state_tensors(self.student), self.subject.kept
        parameters = dict(self.student.named_parameters(remove_duplicate=False))
        chosen = gridded(entries, parameters, self.originals, kept)
        if not chosen:
            raise BadInput(f"keep={list(self.subject.task.keep)!r} leaves no parameter to compress")
        self.survey = survey(self.lesson, self.student, chosen, known, self._tell)
        self.order = [entry.name for entry in entries]
        factors = {part for pair in self.factored.products.values() for part in (pair.left, pair.right)}
        found = self.survey
        specs = grid_specs(
            chosen, self.originals, found.sensitivity, self.subject.channels_last, hard=found.hard, factors=factors
        )
        transform, rate = (self.terms.options.plugin(kind) for kind in ("transform", "rate"))
        fixed = fixed_items(entries, self.originals, kept, chosen)
        return grid_set(transform, rate, specs, chosen, self.terms.options.zone, self.terms.world), fixed

    def _tell(self, what: str) -> None:
        self.terms.progress(stage(what))

    def _settings(self, options: Options) -> dict[str, Any]:
        """What the file tells of how it was made."""
        task = self.subject.task
        settings: dict[str, Any] = {"seed": options.seed, "distill": task.distill, **options.changed()}
        if not self.factored.products:
            settings.pop("methods", None)  # such files are those of grids alone
        settings |= {"keep": list(task.keep)} if task.keep else {}
        return settings | ({"features": list(self.lesson.names)} if self.lesson.names else {})

    def _prepare(self, options: Options, scales: Mapping[str, Sequence[Tensor]]) -> None:
        """Put the student on its grids, ready to start."""
        terms, lesson = self.terms, self.lesson
        hooks = Hooks(lesson.teach, self.file_size, terms.progress, terms.world, terms.work)
        teacher = self.subject.teacher.named_parameters(remove_duplicate=False)
        sources = {name: (p.detach(), scales.get(name.removesuffix(".weight"), ())) for name, p in teacher}
        untuned = Untuned(self.grids, sources)
        parts = self.student, self.grids, lesson.sampler, lesson.objective, options, hooks
        self.tuner: Tuner = options.plugin("tuner", *parts)
        trim()  # the student's own weights
        known = self.survey
        self.ground = Ground(untuned, known.sensitivity, known.layers, self.distortion, self.floor)
        lesson.require(self.student)

    def start(self, budget: float) -> None:
        """Set the grids to where tuning towards ``budget`` bits starts, by the rounding that loses less on calib.

        What was tuned before is forgotten. Where a checkpoint is to be gone on from, that is left to it.
        """
        if not self.tuner.passed():
            self.tuner.start(self.ground, budget)

    def items(self, shift: float = 0.0, log_scale: float = 0.0) -> Mapping[str, Representation]:
        """Return the representation of every tensor as it would be written now, in the order of the module's state."""
        grids: Mapping[str, Representation] = self.grids.representations(shift, log_scale)
        homes = {name: grids if name in grids else self.fixed for name in self.order}
        names = self.factored.order(self.order)
        return Lazy({n: functools.partial(self.factored.item, n, lambda own: homes[own][own]) for n in names})

    def file_size(self, shift: float = 0.0, log_scale: float = 0.0) -> int:
        """Return the bytes of the file that would be written now, verdict included."""
        verdict = None if self.terms.verdict is None else dict(self.terms.verdict)
        return packed_size(self.items(shift, log_scale), self.settings, verdict, self.terms.options.coder)

    def floor(self) -> int:
        """Return the bytes that the file costs even with every weight pruned that calib reaches."""
        steps = self.grids.log_step.clone()
        fixed = equal_slope_steps(self.grids, self.survey.sensitivity, 1.0).log()
        beyond = torch.tensor(self.grids.largest, device="cpu").log().clamp(min=56.0) + 4.0  # all weights
        self.grids.log_step.copy_(torch.where(self.grids.tuned, beyond, fixed))
        size = self.file_size()
        self.grids.log_step.copy_(steps)
        return size

    def least(self) -> float:
        """Return the bytes of the smallest file that may be asked for: the floor, and what floors of layers take."""
        return FLOOR_MARGIN * (self.floor() + self.tuner.limits.floor(self.grids) / 8)

    def check_reachable(self, size: int, what: str) -> None:
        """Raise BadInput where ``size`` bytes are too few for all that is not codes, and the floors of layers."""
        if size >= self.least():
            return
        limits, unused, kept = self.tuner.limits.floor(self.grids) / 8, self.survey.unused, self.subject.kept
        needed = f"{self.floor() + limits:.0f} are needed even with every weight pruned"
        exempt = [f"those that calib does not reach ({', '.join(unused)})"] if unused else []
        exempt += [f"the floors of layer_bits ({limits:.0f} bytes)"] if limits else []
        exempt += [f"those kept ({', '.join(sorted(kept))})"] if kept else []
        raise BadInput(f"{what}: {needed}" + (f" but {' and '.join(exempt)}" if exempt else ""))

    def code_bits(self, budget: float) -> float:
        """Return what the codes may take of a file of ``budget`` bits."""
        return max(budget - 8 * self.floor(), 0.5 * budget)

    def distortion(self) -> float:
        """Return the mean distance from the original on surveyed samples, of the weights rounded as they are now."""
        self.grids.quantise(self.tuner.values)
        return self.lesson.distortion(self.student)

    def loss(self) -> float:
        """Return what is to be low in the end (``Lesson.loss``), of the weights as they would be rounded now."""
        self.grids.quantise(self.tuner.values)
        return self.lesson.loss(self.student)

    def forget_start(self) -> None:
        """Free the memory that a further ``start`` would need."""
        self.survey.layers = Layers()
        self.ground.forget(untuned=not self.terms.options.bias_correction)
        trim()

    def release(self) -> None:
        """Free the memory of everything that is tuned; what reports need stays."""
        self.survey.layers = Layers()
        self.ground.forget(untuned=True)
        self.tuner.release()
        self.student = nn.Module()
        trim()


def allocated(dense: Draft, budget: float, note: str) -> Draft:
    """Return the draft to tune towards ``budget`` bits: ``dense``, whose tensors all have grids, or one with products.

    A knapsack over the bits and the predicted loss of each layer's grids and products makes plans, which share the
    survey of ``dense``; what they lose after some iterations decides. ``note`` names the choice in a checkpoint.
    """
    survey, terms = dense.survey, dense.terms
    if not survey.analyses:
        return dense

    def tuned(plan: Plans, share: float) -> float:
        trial = Draft(dense.subject, terms.trial(), Plan(survey.analyses, plan), survey)
        trial.start(budget)
        with own_random(dense.lesson.device):  # all plans, and the run itself, see the same augmented batches
            trial.tuner.run(budget, int(share * terms.options.iterations), note)
        return trial.loss()

    def choose() -> Any:
        weights = sum(analysis.layer.weight.numel() for analysis in survey.analyses.values())
        limit = dense.code_bits(budget) * weights / dense.grids.count
        return terms.world.agree(climb(survey.analyses, limit, tuned))

    def fits(found: Any) -> bool:
        return isinstance(found, dict) and all(_possible(survey.analyses.get(n), choice) for n, choice in found.items())

    chosen = {name: (way, rank) for name, (way, rank) in terms.work.note(note, choose, fits).items()}
    if not chosen:
        return dense
    draft = Draft(dense.subject, terms, Plan(survey.analyses, chosen), survey)
    draft.settings |= dense.settings
    return draft


def _possible(analysis: Analysis | None, choice: Any) -> bool:
    """Whether a way and a rank that a checkpoint names are open to a layer."""
    if analysis is None or not alike(choice, ["", 0]) or choice[0] not in analysis.ways:
        return False
    return bool(1 <= choice[1] <= min(as_matrix(analysis.weight, choice[0]).shape))


def land(draft: Draft, size: int) -> Mapping[str, Representation]:
    """Return the tensors as they are to be written, in a file as large as possible yet at most ``size`` bytes.

    Tuning ends near the size and settles between its bounds. Only where that fails (after too few iterations, or none)
    are all rounding boundaries shifted alike, or all steps scaled; if even the finest leave the file below the size,
    they are taken. BadInput where even the coarsest are too large.
    """
    least = math.ceil(LEAST * size)
    settled = draft.terms.options.iterations and draft.tuner.settle(least, size)
    if settled or least <= draft.file_size() <= size:
        refine(draft.tuner, draft.ground, least, size)
        return draft.items()
    knob = _turned(draft, size)
    return draft.items() if turn(draft.tuner, draft.ground, knob, least, size) else draft.items(**knob)


def _turned(draft: Draft, size: int) -> dict[str, float]:
    """The setting of a knob that makes the largest file of at most ``size`` bytes."""
    for knob, reach in KNOBS:
        low, high = {knob: -reach}, {knob: reach}  # too large, small enough
        if draft.file_size(**low) < LEAST * size or draft.file_size(**high) > size:
            continue
        for _ in range(BISECTIONS):
            middle = {knob: 0.5 * (low[knob] + high[knob])}
            measured = draft.file_size(**middle)
            low, high = (middle, high) if measured > size else (low, middle)
            if LEAST * size <= measured <= size:
                break
        return high
    coarsest = draft.file_size(**high)
    if coarsest > size:
        raise BadInput(f"no grid brings the file to {size} bytes: the coarsest found has {coarsest}")
    return low
