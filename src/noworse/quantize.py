"""Mixed-precision quantisation of weights and activations, without training: bits per layer, chosen by an allocation.

``calib`` proposes and chooses: each weight at several bit-widths, what each costs alone and in pairs, and on a part
that is held back how few bits the tolerance allows. ``verify`` judges. Source: LLC (2024), part 2. Page:
docs/quantize.md.
"""

from __future__ import annotations

import copy
import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from noworse import data
from noworse.allocate import Choices, allocate, back_off
from noworse.compare import mean_loss
from noworse.data import Batch
from noworse.distill import Distiller, distiller_of
from noworse.errors import BadInput
from noworse.format import write
from noworse.io import Lossless, load_model, safe_open
from noworse.methods.quantizers import clip
from noworse.methods.quantizers.costs import COSTS, fisher_diagonals, gradient_sums, paper_cost, simple_costs
from noworse.methods.quantizers.proposals import FULL, Proposal, propose, true_costs
from noworse.methods.quantizers.sites import Survey, survey
from noworse.model.norms import fold_norms
from noworse.model.quantized import Range, attach, from_settings, input_ranges, to_settings
from noworse.model.tensors import float32_copy, kept_tensors, state_tensors
from noworse.representation import Representation
from noworse.search import Predictor
from noworse.sensitivity.moments import input_moments
from noworse.task import Task
from noworse.verdict import Verdict, parse_tolerance
from noworse.verify import verify_module

DEFAULT, PAPER = "default", "paper"
LEVELS = {DEFAULT: (2, 3, 4, 6, 8, 16), PAPER: (2, 4, 8, 16)}
ACTIVATION_BITS = 8
COST_SAMPLES, MOMENT_SAMPLES, RANGE_SAMPLES, AT_A_TIME = 256, 1024, 512, 64
HELD_BACK = 0.25  # of calib: where the search measures
BISECTIONS, LOOKS = 9, 3
MARGIN = 0.7  # of the tolerance is used on calib
BACK_OFF_SHARE = 0.05  # of all bits that a failed verification adds
CONFIDENCE = 0.95

Bits = float | Mapping[str, int]


@dataclass(frozen=True)
class LayerBits:
    """One row of the table: bits of a layer's weights and of its inputs (None: not quantised), how they are rounded."""

    name: str
    weights: int
    count: int
    activations: int | None
    rounding: str
    cost: float  # predicted loss of this weight alone, nats


@dataclass(frozen=True)
class Quantization:
    """What ``quantize`` returns: a float32 module that computes as the integers would, the verdict, what was done."""

    module: nn.Module
    verdict: Verdict
    table: list[LayerBits]
    alone: dict[str, str]  # weights that are not quantised, and why
    proposals: list[Proposal]  # the chosen ones
    samples: int  # of calib
    seconds: float
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def mean_bits(self) -> float:
        """Bits of a weight on average over all layers that can be quantised."""
        return sum(row.weights * row.count for row in self.table) / sum(row.count for row in self.table)

    @property
    def drop(self) -> float:
        """Share of the bits of these weights that is gone, 1 − mean bits / 32 (LLC's drop-rate)."""
        return 1 - self.mean_bits / FULL

    def save(self, path: str | Path) -> int:
        """Write weights as integer codes and activation ranges to a .nwt file; returns its bytes."""
        items: dict[str, Representation] = {}
        lossless = Lossless(self.module.state_dict())
        codes = {p.name: p.representation for p in self.proposals}
        for name in lossless:
            items[name] = codes.get(name) or lossless[name]
        settings = {**self.settings, "activations": to_settings(input_ranges(self.module))}
        return write(path, items, settings, self.verdict.record(), coder="auto")

    def __str__(self) -> str:
        lines = [f"{self.mean_bits:.2f} bits per weight, {100 * self.drop:.1f} % dropped ({self.seconds:.0f} s)"]
        for row in self.table:
            inputs = "as they are" if row.activations is None else f"{row.activations} bits"
            weights = f"{row.weights:2} bits" if row.weights < FULL else "as they are"
            lines.append(f"  {row.name}: weights {weights} ({row.rounding}), inputs {inputs}, loss {row.cost:+.2g}")
        lines += [f"left alone: {name}, {reason}" for name, reason in self.alone.items()]
        return "\n".join([*lines, str(self.verdict)])


def quantize(
    model: nn.Module,
    *,
    loss: Callable[[nn.Module, Batch], Tensor],
    calib: Iterable[Batch],
    verify: Iterable[Batch],
    bits: Bits | None = None,
    activations: bool | int = True,
    tolerance: float | str = "1%",
    preset: str = DEFAULT,
    **extras: Any,
) -> Quantization:
    """A copy of ``model`` whose weights and layer inputs are rounded to integers of few bits, as few as pass the test.

    Arguments are those of ``noworse.compress``. ``bits``: at most so many per weight on average, or a mapping from
    layer names to bits; None: as few as ``tolerance`` allows. ``activations``: True (8 bits), False, or bits.
    ``preset`` is "default", or "paper" (LLC as published: weights and inputs share their bits, calib needs its labels).
    Batch norms are folded. The verdict says whether the module is no worse; it is returned either way. Raises BadInput
    for what cannot be used, and for ``bits`` below the smallest choice.
    """
    task = Task(model=model, loss=loss, calib=calib, verify=verify, **extras)
    return quantize_task(task, bits=bits, activations=activations, tolerance=tolerance, preset=preset)


def quantize_task(
    task: Task,
    *,
    bits: Bits | None = None,
    activations: bool | int = True,
    tolerance: float | str = "1%",
    preset: str = DEFAULT,
    cost: str = "loss",
    seed: int = 0,
) -> Quantization:
    """``quantize`` for a Task; ``cost`` other than "loss" ("mse", "trace", "fisher") allocates as others do."""
    begin = time.monotonic()
    if preset not in LEVELS:
        raise BadInput(f"unknown preset {preset!r} of quantize: expected one of {', '.join(LEVELS)}")
    if cost not in COSTS:
        raise BadInput(f"unknown cost {cost!r}: expected one of {', '.join(COSTS)}")
    calib, held_out = data.disjoint(task.calib, task.verify)
    limit = parse_tolerance(tolerance, mean_loss(task.model, task.loss, held_out))
    search = Search(task, calib, _activation_bits(activations), preset, cost, seed)
    if bits is None:
        choices = search.within(limit, sum(map(data.batch_size, held_out)))
    else:
        choices = iter([search.fixed(bits) if isinstance(bits, Mapping) else search.at(bits)])
    for look, chosen in enumerate(choices, 1):
        module = search.build(chosen)
        verdict = verify_module(module, task, held_out, tolerance=limit, looks=look, confidence=CONFIDENCE)
        if verdict.passed or look == LOOKS:
            break
    asked = dict(bits) if isinstance(bits, Mapping) else bits
    settings = {"method": "quantize", "preset": preset, "cost": cost, "tolerance": str(tolerance), "seed": seed}
    return Quantization(
        module, verdict, search.table(chosen), search.survey.alone, chosen, sum(map(data.batch_size, calib)),
        time.monotonic() - begin, {**settings, "bits": asked},
    )  # fmt: skip


def load_quantized(module: nn.Module, path: str | Path) -> nn.Module:
    """Load a file of ``Quantization.save`` into ``module``, in place: weights, and hooks that round layer inputs."""
    with safe_open(path) as file:
        ranges = from_settings(file.metadata()["settings"].get("activations", {}))
    return attach(load_model(module, path).eval(), ranges)


def _activation_bits(activations: bool | int) -> int | None:
    if isinstance(activations, bool):
        return ACTIVATION_BITS if activations else None
    if not isinstance(activations, int) or not 2 <= activations <= 16:
        raise BadInput(f"activations is {activations!r}: expected True, False, or 2 to 16 bits")
    return activations


class Search:
    """The original with norms folded, its proposals and what they cost; ``student`` is the choice being measured."""

    def __init__(
        self, task: Task, calib: list[Batch], activation_bits: int | None, preset: str, cost: str, seed: int
    ) -> None:
        self.task, self.calib, self.activation_bits = task, calib, activation_bits
        self.preset, self.cost, self.seed = preset, cost, seed
        self.shown, self.held_back = data.split(calib, HELD_BACK, seed)
        original = float32_copy(task.model)
        kept = kept_tensors(state_tensors(original), task.keep) if task.keep else set()
        first = next(self._batches(8))
        self.teacher, _ = fold_norms(original, lambda module: self.forward(module, first), kept)
        self.student = self.teacher
        runs = (functools.partial(self.forward, self.teacher, batch) for batch in self._batches(RANGE_SAMPLES))
        self.survey: Survey = survey(self.teacher, runs, kept)
        self.sites = {site.key: site for site in self.survey.sites}

    @torch.no_grad()
    def forward(self, module: nn.Module, batch: Batch) -> Tensor:
        """Outputs (B, ..., K) of ``module`` in float32, by the task's own function where it has one."""
        return self.task.outputs(module, batch)

    def _batches(self, most: int) -> Iterator[Batch]:
        """The first samples of what the search does not measure on, a few at a time."""
        return data.first_samples(self.shown, most, AT_A_TIME)

    @functools.cached_property
    def distiller(self) -> Distiller:
        """The loss between the outputs of two models."""
        return distiller_of(self.task.distill, self.forward(self.teacher, next(self._batches(AT_A_TIME))))

    @functools.cached_property
    def proposals(self) -> list[list[Proposal]]:
        """What may be chosen for each site, without costs."""
        if self.preset == PAPER:
            return [propose(site, LEVELS[PAPER], None, "laplace", False) for site in self.survey.sites]
        runs = (functools.partial(self.forward, self.teacher, batch) for batch in self._batches(MOMENT_SAMPLES))
        weights = {site.key: site.weight for site in self.survey.sites}
        moments = input_moments(self.teacher, weights, runs)
        return [propose(site, LEVELS[DEFAULT], moments.get(site.key)) for site in self.survey.sites]

    @functools.cached_property
    def choices(self) -> Choices:
        """The proposals with what they cost."""
        flat = [proposal for row in self.proposals for proposal in row]
        pairs = None
        if self.preset == PAPER:
            costs = self._published(flat)
        elif self.cost == "loss":
            batches = list(self._batches(COST_SAMPLES))
            costs, pairs = true_costs(self.teacher, self.forward, batches, self.sites, flat, self.distiller)
        else:
            costs = simple_costs(self.cost, self.sites, flat, {} if self.cost == "mse" else self._diagonals())
        ends = np.cumsum([len(row) for row in self.proposals]).tolist()
        rows = [costs[end - len(row) : end] for end, row in zip(ends, self.proposals, strict=True)]
        return Choices(rows, [[p.bits for p in row] for row in self.proposals], pairs)

    def _diagonals(self) -> dict[str, Tensor]:
        for site in self.survey.sites:
            site.weight.requires_grad_(True)
        outputs = ((self.task.outputs(self.teacher, b), data.batch_size(b)) for b in self._batches(COST_SAMPLES))
        found = fisher_diagonals(self.sites, outputs, self.distiller, self.seed)
        self.teacher.requires_grad_(False)
        return found

    def losses(self) -> Tensor:
        """Per-sample losses of the teacher with the labels of calib."""
        batches = self._batches(COST_SAMPLES)
        return torch.cat([self.task.labelled_losses(self.teacher, b, "the preset 'paper'") for b in batches])

    def _published(self, proposals: Sequence[Proposal]) -> list[float]:
        return [
            paper_cost(
                self.teacher, (site := self.sites[p.name]), p, self._ranges(p).get(site.layers[0]),
                self.survey.inputs.get(site.layers[0]), self.losses,
            )
            for p in proposals
        ]  # fmt: skip

    @functools.cached_property
    def directions(self) -> dict[str, str]:
        """Which way the inputs of each layer are rounded."""
        if self.preset != PAPER:
            return dict.fromkeys(self.survey.inputs, "nearest")
        sums = gradient_sums(self.teacher, self.survey.inputs, self.losses)
        return {name: "up" if total < 0 else "down" for name, total in sums.items()}

    def _ranges(self, proposal: Proposal) -> dict[str, Range]:
        """The ranges of the inputs of a weight's layers; as wide as the weight's codes in LLC."""
        bits = self.activation_bits
        if bits is not None and self.preset == PAPER:
            bits = proposal.width if proposal.rounded else None
        if bits is None:
            return {}
        found = {}
        for name in self.sites[proposal.name].layers:
            if name in self.survey.inputs:
                found[name] = self._range(name, bits)
        return found

    @functools.cache  # noqa: B019  (a search lives as long as its ranges)
    def _range(self, name: str, bits: int) -> Range:
        seen = self.survey.inputs[name]
        way = "laplace" if self.preset == PAPER else "mse"
        limits = clip.limits(seen.sample, bits, way, (seen.low, seen.high))
        return Range.covering(*limits, bits, self.directions[name])

    @torch.no_grad()
    def build(self, chosen: Sequence[Proposal]) -> nn.Module:
        """The teacher with the chosen weights, and hooks that round its layers' inputs."""
        module = copy.deepcopy(self.teacher)
        ranges: dict[str, Range] = {}
        for proposal in chosen:
            if proposal.rounded is not None:
                module.get_parameter(proposal.name).copy_(proposal.rounded.decode())
            ranges |= self._ranges(proposal)
        return attach(module, ranges)

    def pick(self, indices: Sequence[int]) -> list[Proposal]:
        """The proposals of these numbers, one per site."""
        return [row[j] for row, j in zip(self.proposals, indices, strict=True)]

    @property
    def _count(self) -> int:
        return sum(site.weight.numel() for site in self.survey.sites)

    def at(self, bits: float) -> list[Proposal]:
        """The allocation within ``bits`` per weight on average."""
        if not isinstance(bits, (int, float)) or not math.isfinite(bits) or bits <= 0:
            raise BadInput(f"bits is {bits!r}: expected a positive number of bits per weight, or a mapping")
        return self.pick(allocate(self.choices, bits * self._count))

    def fixed(self, bits: Mapping[str, int]) -> list[Proposal]:
        """The bits that are given for each layer; layers without are left as they are."""
        names = {site.name: k for k, site in enumerate(self.survey.sites)}
        unknown = [name for name in bits if name not in names]
        if unknown:
            raise BadInput(f"bits names {', '.join(unknown)}: expected layers among {', '.join(names)}")
        found = []
        for name, k in names.items():
            widths = {p.width: p for p in self.proposals[k]}
            wanted = bits.get(name, FULL)
            if wanted not in widths:
                raise BadInput(f"bits of {name!r} are {wanted!r}: expected one of {', '.join(map(str, widths))}")
            found.append(widths[wanted])
        return found

    def within(self, limit: float, samples: int) -> Iterator[list[Proposal]]:
        """The smallest allocation whose predicted bound of a test on ``samples`` stays within ``limit``.

        Where the verdict on it is not good enough: with 5 % more bits each time, spent where they help most.
        """
        predictor = Predictor(self.task, self, self.held_back, samples, CONFIDENCE)
        low = sum(min(row) for row in self.choices.sizes) / self._count
        high, best = float(FULL), [len(row) - 1 for row in self.proposals]
        for _ in range(BISECTIONS):
            middle = math.sqrt(low * high)  # finer where bits are few
            trial = allocate(self.choices, middle * self._count)
            self.student = self.build(self.pick(trial))
            if predictor.bound() <= MARGIN * limit:
                high, best = middle, trial
            else:
                low = middle
        yield self.pick(best)
        more = self.choices.size(best)
        for indices in back_off(self.choices, best):
            if self.choices.size(indices) >= (1 + BACK_OFF_SHARE) * more:
                more = self.choices.size(indices)
                yield self.pick(indices)

    def table(self, chosen: Sequence[Proposal]) -> list[LayerBits]:
        """A row for each site."""
        rows = []
        for k, (site, proposal) in enumerate(zip(self.survey.sites, chosen, strict=True)):
            ranges = list(self._ranges(proposal).values())
            rows.append(LayerBits(
                site.name, proposal.width, site.weight.numel(), ranges[0].bits if ranges else None,
                proposal.rounded.rounding if proposal.rounded else "none",
                self.choices.costs[k][self.proposals[k].index(proposal)] if "choices" in self.__dict__ else math.nan,
            ))  # fmt: skip
        return rows
