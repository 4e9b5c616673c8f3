"""A net whose weights and layer inputs may be rounded: proposals of bits, what they cost, and allocations among them.

Rounding to few bits is fitted to the samples that it sees, and loses less there than elsewhere. So what proposals cost
is measured on other samples. Sums over layers, and even pairs, are predictions: several allocations of one size, and
small changes of the best of them, are put into the net as a whole, and the one that loses least is taken.
"""

import functools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from noworse.allocate.knapsack import Choices, allocate, back_off, settle
from noworse.errors import BadInput
from noworse.model.device import double
from noworse.model.quantized import OUTPUT, Range, add_rounding
from noworse.model.tensors import twin
from noworse.propose.bits.proposals import COSTS, FULL, TRUE, Proposal
from noworse.propose.bits.sites import survey_inputs
from noworse.propose.bits.strategy import PRESETS, BitStrategy, Clip, clip_range
from noworse.propose.grids.means import WITH_BIAS, Means, correct_biases, output_means, samples_of
from noworse.representation import Representation
from noworse.run.named import DEFAULT, named
from noworse.survey.capture import count_flops
from noworse.survey.curvature import sums_of_squares
from noworse.survey.subject import Subject
from noworse.task import data
from noworse.task.data import Batch
from noworse.task.distances import Distance

RANGE_SAMPLES, COST_SAMPLES, FEWEST, AT_A_TIME = 512, 256, 32, 64
JOINT_SAMPLES = 1024  # on which whole allocations are tried
WORK = 2e12  # operations for measuring costs: large nets are measured on fewer samples, FEWEST at least
TRIES = 12  # changes of the best allocation that are tried
Bits = float | Mapping[str, int]


@dataclass(frozen=True)
class LayerBits:
    """One row of the table: bits of a layer's weights and of its inputs (None: not quantised), how they are rounded."""

    name: str
    weights: float
    count: int
    activations: int | None
    rounding: str
    cost: float  # predicted loss of this weight alone, nats


class Priced:
    """A subject's teacher, its norms folded, with proposals for its weights and ranges of what its layers are fed.

    ``activation_bits`` is what inputs of layers are rounded to (None: not at all), ``preset`` names the strategy, and
    ``cost`` is one of ``COSTS``.
    """

    def __init__(
        self, subject: Subject, activation_bits: int | None = None, preset: str = DEFAULT, cost: str = TRUE
    ) -> None:
        if cost not in COSTS:
            raise BadInput(f"unknown cost {cost!r}: expected one of {', '.join(COSTS)}")
        self.subject, self.activation_bits, self.preset, self.cost = subject, activation_bits, preset, cost
        self.method: BitStrategy = named("preset", PRESETS, preset, BitStrategy)
        subject.fold()
        self.teacher, self.batches = subject.teacher, subject.samples
        self.survey = survey_inputs(self.teacher, subject.runs(self.teacher, RANGE_SAMPLES), subject.kept)
        self.sites = {site.key: site for site in self.survey.sites}
        sums = {name + OUTPUT: seen for name, seen in self.survey.sums.items()}
        self.values = {**self.survey.inputs, **sums}  # of all that may be rounded but weights

    @torch.no_grad()
    def forward(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return outputs (B, ..., K) of ``module`` in float32."""
        return self.subject.forward(module, batch)

    @functools.cached_property
    def distance(self) -> Distance:
        """The task's distance between outputs, on the scale of the original's."""
        return self.subject.distance(self.forward(self.teacher, next(self.batches(AT_A_TIME))))

    def compared(self, batches: Iterable[Batch]) -> list[tuple[Batch, Tensor]]:
        """Return batches with the original's outputs on them, as ``mean_distance`` takes them."""
        return [(batch, self.forward(self.teacher, batch)) for batch in batches]

    def mean_distance(self, module: nn.Module, pairs: Iterable[tuple[Batch, Tensor]]) -> float:
        """Return the mean distillation loss of ``module`` on batches with the original's outputs on them."""
        losses = [self.distance(self.forward(module, batch), original) for batch, original in pairs]
        return float(double(torch.cat(losses)).mean())

    def unseen(self, most: int) -> list[Batch]:
        """Return at most so many samples that nothing is fitted to; ``FEWEST`` though, where calib is small."""
        return self.subject.unseen(most, FEWEST)

    def affordable(self, proposals: int) -> int:
        """Return how many samples the true cost of so many proposals is measured on."""
        batch = next(self.batches(1))
        operations = count_flops(self.teacher, functools.partial(self.forward, batch=batch), data.batch_size(batch))
        return min(COST_SAMPLES, max(FEWEST, int(WORK / max(operations * proposals, 1))))

    def losses(self) -> Tensor:
        """Return per-sample losses of the teacher with the labels of calib."""
        label, loss = f"the preset {self.preset!r}", self.subject.task.labelled_losses
        return torch.cat([loss(self.teacher, batch, label) for batch in self.batches(COST_SAMPLES)])

    @functools.cached_property
    def diagonals(self) -> dict[str, Tensor]:
        """F = E[(∂ℓ/∂w)²] of each weight that has a gradient."""
        weights = {key: site.weight for key, site in self.sites.items()}
        for weight in weights.values():
            weight.requires_grad_(True)
        outputs = ((run(), size) for run, size in self.subject.sized_runs(self.teacher, COST_SAMPLES))
        found = sums_of_squares(weights, outputs, self.distance, self.subject.seed, lambda g: double(g).square())
        self.teacher.requires_grad_(False)
        return found

    @functools.cached_property
    def directions(self) -> dict[str, str]:
        """Which way the inputs of each layer are rounded."""
        return self.method.directions(self)

    def ranges(self, proposal: Proposal | None) -> dict[str, Range]:
        """Return the ranges of the inputs of a weight's layers, or without one those of outputs that end in sums."""
        bits = self.method.input_bits(self.activation_bits, proposal)
        if bits is None:
            return {}
        names = [name + OUTPUT for name in self.survey.sums] if proposal is None else self.sites[proposal.name].layers
        return {name: self.clipped(name, bits, self._clip(bits)) for name in names if name in self.values}

    @functools.cache  # noqa: B019  (a search lives as long as its ranges)
    def clipped(self, name: str, bits: int, way: Clip) -> Range:
        """Return the range of a layer's input, or of its output where the name ends in ``OUTPUT``."""
        return Range.covering(*clip_range(self.values[name], bits, way), bits, self.directions.get(name, "nearest"))

    @functools.cache  # noqa: B019
    def _clip(self, bits: int) -> Clip:
        return self.method.clip(self, bits)

    @torch.no_grad()
    def build(self, chosen: Sequence[Proposal]) -> nn.Module:
        """Return the teacher with the chosen weights, hooks that round inputs, and biases that make up for both."""
        module = twin(self.teacher)
        ranges = self.ranges(None)
        for proposal in chosen:
            if proposal.written is not None:
                module.get_parameter(proposal.name).copy_(proposal.decode())
            ranges |= self.ranges(proposal)
        add_rounding(module, ranges)
        return self._corrected(module) if self.method.settles else module

    def _corrected(self, module: nn.Module) -> nn.Module:
        """The module with biases that bring means of outputs back, if on the samples of these it loses less."""
        batch, original, means = self._means
        before = self.mean_distance(module, [(batch, original)])
        biases: list[Any] = [layer.bias for layer in module.modules() if isinstance(layer, WITH_BIAS)]
        held = [(bias, bias.clone()) for bias in biases if bias is not None]
        outputs = correct_biases(module, means, functools.partial(self.forward, module, batch))
        if not float(double(self.distance(outputs, original)).mean()) < before:
            for bias, value in held:
                bias.copy_(value)
        return module

    @functools.cached_property
    def _means(self) -> tuple[Batch, Tensor, Means]:
        """Samples, what the original makes of them, and the means of what its layers return."""
        count = samples_of(self.subject.shown[0])
        batch = next(self.batches(count, count))
        layers = {name for site in self.survey.sites for name in site.layers}
        return batch, *output_means(self.teacher, layers, functools.partial(self.forward, self.teacher, batch))

    @functools.cached_property
    def proposals(self) -> list[list[Proposal]]:
        """All proposals, a row for each site."""
        found = self.method.propose(self)
        for name, item in ((each.name, each.written) for row in found for each in row):
            shape = tuple(self.sites[name].weight.shape)
            if isinstance(item, Representation) and (item.shape, item.dtype) != (shape, "float32"):
                raise BadInput(f"{name!r} was proposed as {item.dtype} {item.shape}: expected float32 {shape}")
        return found

    @functools.cached_property
    def choices(self) -> Choices:
        """The proposals with what they cost."""
        return self.priced(self.cost)

    @functools.cache  # noqa: B019
    def priced(self, cost: str) -> Choices:
        """Return the proposals with what they cost in one way of ``COSTS``."""
        costs, pairs = self.method.costs(self, [proposal for row in self.proposals for proposal in row], cost)
        each = iter(costs)
        rows = [[next(each) for _ in row] for row in self.proposals]
        return Choices(rows, [[p.bits for p in row] for row in self.proposals], pairs)

    def pick(self, indices: Sequence[int]) -> list[Proposal]:
        """Return the proposals of these numbers, one per site."""
        return [row[j] for row, j in zip(self.proposals, indices, strict=True)]

    @property
    def count(self) -> int:
        """Weights of all sites."""
        return sum(site.weight.numel() for site in self.survey.sites)

    def settled(self, limit: float) -> list[int]:
        """Return of several allocations within ``limit`` bits the one that loses least as a whole, for true costs."""
        if not self.method.settles or self.cost != TRUE:
            return allocate(self.choices, limit)
        starts = [allocate(self.choices, limit), allocate(replace(self.choices, pairs=None), limit)]
        starts += [allocate(self.priced(cost), limit) for cost in COSTS if cost != TRUE]
        alike = ([j] * len(self.proposals) for j in range(min(map(len, self.proposals))))
        starts += [chosen for chosen in alike if self.choices.size(chosen) <= limit][-1:]  # the largest that fits
        return settle(self.choices, starts, limit, self._joint_loss, TRIES)

    def _joint_loss(self, indices: Sequence[int]) -> float:
        name = f"loss of {','.join(map(str, indices))}"
        return self.subject.work.number(name, lambda: self.mean_distance(self.build(self.pick(indices)), self._joint))

    @functools.cached_property
    def _joint(self) -> list[tuple[Batch, Tensor]]:
        samples = min(JOINT_SAMPLES, 4 * self.affordable(sum(map(len, self.proposals))))
        return self.compared(self.unseen(samples))

    def at(self, bits: float) -> list[Proposal]:
        """Return the allocation within ``bits`` per weight on average."""
        if not isinstance(bits, (int, float)) or not math.isfinite(bits) or bits <= 0:
            raise BadInput(f"bits is {bits!r}: expected a positive number of bits per weight, or a mapping")
        return self.pick(self.settled(bits * self.count))

    def fixed(self, bits: Mapping[str, int]) -> list[Proposal]:
        """Return the proposals of the bits given for each layer; layers without are left as they are."""
        offered = {site.name: row for site, row in zip(self.survey.sites, self.proposals, strict=True)}
        if unknown := [name for name in bits if name not in offered]:
            raise BadInput(f"bits names {', '.join(unknown)}: expected layers among {', '.join(offered)}")
        found = []
        for name, row in offered.items():
            widths = {proposal.width: proposal for proposal in row}
            wanted = bits.get(name, FULL)
            if wanted not in widths:
                raise BadInput(f"bits of {name!r} are {wanted!r}: expected one of {', '.join(map(str, widths))}")
            found.append(widths[wanted])
        return found

    def asked(self, bits: Bits) -> list[Proposal]:
        """Return the allocation within ``bits`` per weight on average, or with the bits given for each layer."""
        return self.fixed(bits) if isinstance(bits, Mapping) else self.at(bits)

    def larger(self, indices: Sequence[int], share: float) -> Iterator[list[int]]:
        """Yield allocations each larger by this share of bits than the one before, spent where they help most."""
        size = self.choices.size(indices)
        for more in back_off(self.choices, indices):
            if self.choices.size(more) >= (1 + share) * size:
                size = self.choices.size(more)
                yield more

    def table(self, chosen: Sequence[Proposal]) -> list[LayerBits]:
        """Return a row for each site."""
        rows = []
        for k, (site, proposal) in enumerate(zip(self.survey.sites, chosen, strict=True)):
            inputs = next((values.bits for values in self.ranges(proposal).values()), None)
            known = "choices" in self.__dict__
            cost = self.choices.costs[k][self.proposals[k].index(proposal)] if known else math.nan
            rows.append(LayerBits(site.name, proposal.width, site.weight.numel(), inputs, proposal.rounding, cost))
        return rows
