"""A compression in progress: the original, its folded student, the grids on it, and the file they would make."""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.format import packed_size
from noworse.format.lazy import Lazy
from noworse.model.norms import fold_norms
from noworse.model.tensors import float32_copy, kept_tensors, state_bytes, state_tensors
from noworse.propose.grids.compensated import Layer
from noworse.propose.grids.grid import GridSet
from noworse.propose.grids.start import equal_slope_steps
from noworse.propose.grids.survey import Known, fixed_items, grid_set, grid_specs, usable
from noworse.propose.ranks.candidates import Analysis
from noworse.propose.ranks.student import GRIDS_ALONE, Plan, analyse, factor
from noworse.representation import Representation
from noworse.run.memory import trim
from noworse.run.precision import Precision
from noworse.run.processes import ALONE, Ranks
from noworse.run.recompute import recompute_blocks
from noworse.run.resume import NOWHERE, Work
from noworse.survey.fisher import tensor_sensitivity
from noworse.survey.moments import input_moments
from noworse.task import data
from noworse.task.data import Batch
from noworse.task.distances import distiller_of
from noworse.task.task import Task
from noworse.tune import refine
from noworse.tune.features import choose_features, variances
from noworse.tune.objective import Features, Objective, Seen, Weights
from noworse.tune.options import Options
from noworse.tune.sampling import Sampler
from noworse.tune.start import Ground
from noworse.tune.tuner import Hooks, Progress, Tuner

SENSITIVITY_SAMPLES, SENSITIVITY_BATCH = 512, 16  # the latter at most: no more than are tuned on at a time
MOMENT_SAMPLES = 4096  # most that second moments of inputs are taken from, and plans are compared on
PROBE = 8  # samples that folded norms must agree on, likewise
MOMENTS_BYTES = 1 << 25  # of the moments of all inputs, or as many as the weights have
CACHE_LIMIT = 1 << 26  # bytes of original outputs kept in memory, or half as many as the model has
FLOOR_MARGIN = 1.02


class Workspace:
    """Everything between the caller's model and the file; the caller's model is copied, never changed."""

    def __init__(
        self,
        task: Task,
        calib: list[Batch],
        options: Options,
        progress: Progress,
        ranks: Ranks = ALONE,
        work: Work = NOWHERE,
        plan: Plan = GRIDS_ALONE,
    ) -> None:
        self.task, self.calib, self.options, self.ranks = task, calib, options, ranks
        self.original_bytes = state_bytes(task.model)
        self.teacher = float32_copy(task.model, share=True)
        self.originals = {entry.name: entry.tensor.detach() for entry in state_tensors(task.model)}
        self.kept = kept_tensors(state_tensors(task.model), task.keep)
        probe = data.select(calib[0], torch.arange(min(PROBE, options.batch, data.batch_size(calib[0]))))
        self._original(probe)
        run = functools.partial(self.forward, batch=probe)
        self.student, self.folded = fold_norms(self.teacher, run, self.kept)
        if options.features:  # folding changes what inner modules return, and with them what is to be learnt
            self.teacher = copy.deepcopy(self.student)
        self.channels_last = task.channels_last(probe)
        if task.augment is not None and self.channels_last:  # it runs in every iteration: worth a copy that is faster
            self.teacher.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if options.checkpointing:
            recompute_blocks(self.student)
        self.precision = Precision(options.precision, data.leaves(probe)[0].device.type)
        self.sampler = Sampler(calib, options.batch, options.seed)
        kind = task.distill if options.distill == "task" else options.distill
        names = choose_features(self.student, run, options.features) if options.features else ()
        self.objective = self._objective(kind, names)
        self.plan = Plan(self._analyse()) if options.methods == "auto" and not plan.analyses else plan
        with torch.no_grad():
            self.factored = factor(self.student, self.plan)
        for name, factors in self.factored.products.items():
            self.originals |= dict.fromkeys((factors.left, factors.right), self.originals[name])
        self.originals |= {new: self.originals[old] for new, old in self.factored.renamed.items()}
        self.grids, self.fixed = self._survey()
        self.known = Known(self._original)
        self.objective.check(self.student, probe)
        self.settings: dict[str, Any] = {"seed": options.seed, "distill": task.distill, **options.changed()}
        if not self.factored.products:
            self.settings.pop("methods", None)  # such files are those of grids alone
        self.settings |= {"keep": list(task.keep)} if task.keep else {}
        self.settings |= {"features": list(names)} if names else {}
        hooks = Hooks(self._teach, self.measure, progress, ranks, work)
        parts = self.student, self.grids, self.sampler, self.objective, options, hooks
        self.tuner: Tuner = options.plugin("tuner", *parts)
        trim()  # the student's own weights
        self.ground = Ground(self.grids.state(), self.sensitivity, self.layers, self.start_loss, self.floor)
        self.precision.require(lambda: self._trial(probe).backward())  # type: ignore[no-untyped-call]
        self.verdict: dict[str, Any] | None = None  # what measurements take the verdict to be

    def forward(self, module: nn.Module, batch: Batch) -> Tensor:
        """Outputs (B, ..., K) of ``module`` in float32, by the task's own function where it has one."""
        return self.task.outputs(module, batch)

    @torch.no_grad()
    def _original(self, batch: Batch) -> Tensor:
        return usable(self.forward(self.teacher, batch), data.batch_size(batch))

    def _objective(self, kind: str, names: Sequence[str]) -> Objective:
        """What tuning lowers; the original's outputs are cached where that is possible, features never are."""
        options, task = self.options, self.task
        weights = Weights(options.distill_weight, options.feature_weight if names else 0.0, options.label_weight)
        batch, _ = next(iter(Sampler(self.sampler.batches, self.sampler.at_a_time(), options.seed)))
        outputs = self._original(batch)
        size = outputs[0].numel() * 4 * sum(data.batch_size(b) for b in self.sampler.batches)
        limit = max(CACHE_LIMIT, self.original_bytes // 2)
        if task.augment is None and size <= limit and not names and options.iterations:
            self.sampler.remember(self._original)
        self.distiller = distiller_of(kind, outputs)  # what measures; tuning looks at unlikely classes, too
        distiller = distiller_of(kind, outputs, options.temperature)
        own = task.forward is None
        cast = self.precision.cast
        made = Objective(distiller, self.forward, weights, Features(names), task.prepared_loss, own, cast)
        if names:
            with torch.no_grad():
                made.features = Features(names, variances(made.observe(self.teacher, batch).features))
        return made

    @torch.no_grad()
    def _teach(self, batch: Batch, outputs: Tensor | None) -> tuple[Batch, Seen]:
        whole = data.batch_size(batch)
        if self.task.augment is not None:  # the whole batch on every rank: a sample's variation is the same on any
            batch = self.task.augment(batch)
            if data.batch_size(batch) != whole:
                raise BadInput(f"augment made {data.batch_size(batch)} samples of {whole}: expected as many")
        rows = self.ranks.rows(whole)
        if rows.start == rows.stop:
            return data.select(batch, rows), Seen(torch.empty(0))
        if rows != slice(0, whole):
            batch, outputs = data.select(batch, rows), None if outputs is None else outputs[rows]
        if outputs is not None:
            return batch, Seen(outputs)
        seen = self.objective.observe(self.teacher, batch)
        return batch, seen._replace(outputs=usable(seen.outputs, data.batch_size(batch)))

    def _trial(self, batch: Batch) -> Tensor:
        """The mean loss of the student on a batch."""
        return self.objective(self.student, *self._teach(batch, None)).mean()

    def _analyse(self) -> dict[str, Analysis]:
        """Curvature of the layers that may be worth factors."""
        runs = ((functools.partial(self.forward, self.student, batch), data.batch_size(batch))
                for batch in self._samples())  # fmt: skip
        generator = torch.Generator().manual_seed(self.options.seed)
        return analyse(self.student, self.kept, runs, functools.partial(self.distiller.probe, generator=generator))

    def _survey(self) -> tuple[GridSet, dict[str, Representation]]:
        entries = state_tensors(self.student)
        parameters = dict(self.student.named_parameters(remove_duplicate=False))
        chosen = {e.name: parameters[e.name] for e in entries if e.is_grid and e.name not in self.kept}
        if not chosen:
            raise BadInput(f"keep={list(self.task.keep)!r} leaves no parameter to compress")
        for parameter in chosen.values():
            parameter.requires_grad_(True)
        self.sensitivity = tensor_sensitivity(chosen, self._probes(), self.distiller, self.options.seed)
        self.layers: dict[str, Layer] = {}
        trim()
        if self.options.rounding != "nearest":
            batches = self._samples(MOMENT_SAMPLES)
            runs = (functools.partial(self.forward, self.student, batch) for batch in batches)
            limit = max(MOMENTS_BYTES, sum(4.0 * parameter.numel() for parameter in chosen.values()))
            least = SENSITIVITY_SAMPLES // SENSITIVITY_BATCH
            moments = input_moments(self.student, chosen, runs, limit, least)
            damping = self.options.damping
            self.layers = {name: Layer(chosen[name].shape, moments.pop(name), damping) for name in list(moments)}
        trim()
        self.unused = [name for name, value in self.sensitivity.items() if value == 0]
        if len(self.unused) == len(chosen):
            raise BadInput("no parameter influences the model's outputs on calib: expected a differentiable model")
        self.order = [entry.name for entry in entries]
        specs = grid_specs(chosen, self.originals, self.sensitivity, self.channels_last)
        fixed = fixed_items(entries, self.originals, self.kept, chosen)
        transform, rate = self.options.plugin("transform"), self.options.plugin("rate")
        return grid_set(transform, rate, specs, chosen, self.options.zone), fixed

    def _samples(self, count: int = SENSITIVITY_SAMPLES) -> Iterator[Batch]:
        """The first calibration samples, a few at a time: what the survey looks at."""
        return data.first_samples(self.calib, count, min(SENSITIVITY_BATCH, self.options.batch))

    def _probes(self) -> Iterator[tuple[Tensor, int]]:
        for batch in self._samples():
            size = data.batch_size(batch)
            yield usable(self.forward(self.student, batch), size), size

    def items(self, shift: float = 0.0, log_scale: float = 0.0) -> Mapping[str, Representation]:
        """The representation of every tensor as it would be written now, in the order of the module's state."""
        grids: Mapping[str, Representation] = self.grids.representations(shift, log_scale)
        homes = {name: grids if name in grids else self.fixed for name in self.order}
        names = self.factored.order(self.order)
        return Lazy({n: functools.partial(self.factored.item, n, lambda own: homes[own][own]) for n in names})

    def measure(self, shift: float = 0.0, log_scale: float = 0.0) -> int:
        """Bytes of the file that would be written now, verdict included."""
        return packed_size(self.items(shift, log_scale), self.settings, self.verdict, self.options.coder)

    def floor(self) -> int:
        """Bytes that the file costs even with every weight pruned that calib reaches."""
        steps = self.grids.log_step.clone()
        fixed = equal_slope_steps(self.grids, self.sensitivity, 1.0).log()
        self.grids.log_step.copy_(torch.where(self.grids.tuned, 60.0, fixed))
        size = self.measure()
        self.grids.log_step.copy_(steps)
        return size

    def least(self) -> float:
        """Bytes of the smallest file that may be asked for: the floor, and what the floors of layers take."""
        return FLOOR_MARGIN * (self.floor() + self.tuner.limits.floor(self.grids) / 8)

    def check_reachable(self, size: int, what: str) -> None:
        """BadInput where a file of ``size`` bytes is too small for all that is not codes, and the floors of layers."""
        if size >= self.least():
            return
        limits = self.tuner.limits.floor(self.grids) / 8
        needed = f"{self.floor() + limits:.0f} are needed even with every weight pruned"
        exempt = [f"those that calib does not reach ({', '.join(self.unused)})"] if self.unused else []
        exempt += [f"the floors of layer_bits ({limits:.0f} bytes)"] if limits else []
        exempt += [f"those kept ({', '.join(sorted(self.kept))})"] if self.kept else []
        raise BadInput(f"{what}: {needed}" + (f" but {' and '.join(exempt)}" if exempt else ""))

    def start(self, budget: float) -> None:
        """Set the grids to where tuning towards ``budget`` bits starts, by the rounding that loses less on calib.

        What was tuned before is forgotten. Where a checkpoint is to be gone on from, that is left to it.
        """
        if not self.tuner.passed():
            self.tuner.start(self.ground, budget)

    def forget_start(self) -> None:
        """Free the memory that a further ``start`` would need."""
        self.layers = {}
        self.ground.forget(untuned=not self.options.bias_correction)
        trim()

    def release(self) -> None:
        """Free the memory of everything that is tuned; what reports need stays."""
        self.layers = {}
        self.ground.forget(untuned=True)
        self.tuner.release()
        del self.student
        trim()

    def code_bits(self, budget: float) -> float:
        """What the codes may take of a file of ``budget`` bits."""
        return max(budget - 8 * self.floor(), 0.5 * budget)

    def refine(self, low: int, high: int) -> None:
        """Correct biases, if options ask for that, in a file of ``low`` to ``high`` bytes."""
        refine.refine(self.tuner, self.ground, low, high)

    def turn(self, knob: Mapping[str, float], low: int, high: int) -> bool:
        """Refine with a knob turned (see ``items``), if options ask for that; False leaves all as it was."""
        return refine.turn(self.tuner, self.ground, knob, low, high)

    @torch.no_grad()
    def tuned_loss(self) -> float:
        """What is to be low in the end, on samples of calib as they are, of the weights as they would be rounded now.

        That is what tuning lowers, but for labels: where they count, theirs is the loss that the file is judged by.
        """
        self.grids.quantise(self.tuner.values)
        seen = ((batch, self.objective.observe(self.teacher, batch)) for batch in self._samples(MOMENT_SAMPLES))
        return float(torch.cat([self.objective.judged(self.student, *each) for each in seen]).mean())

    @torch.no_grad()
    def start_loss(self) -> float:
        """Distillation loss on the surveyed samples, of the weights as they would be rounded now."""
        self.grids.quantise(self.tuner.values)
        outputs = self.known.outputs(self._samples())
        found = [self.distiller(self.forward(self.student, b), original) for b, original in outputs]
        return float(torch.cat(found).mean())
