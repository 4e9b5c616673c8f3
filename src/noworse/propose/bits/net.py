"""A net whose weights and layer inputs are rounded: the original with norms folded, and what calib says of it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from noworse.model.quantized import OUTPUT, Range, attach
from noworse.model.tensors import twin
from noworse.propose.bits.clip import Clip, limits
from noworse.propose.bits.proposals import Proposal
from noworse.propose.bits.sites import Survey, survey
from noworse.propose.bits.strategy import PRESETS, Bits
from noworse.propose.grids.means import Means, correct_biases, output_means, samples_of
from noworse.run.named import named
from noworse.survey.fisher import sums_of_squares
from noworse.survey.flops import count_flops
from noworse.survey.subject import Subject
from noworse.task import data
from noworse.task.data import Batch
from noworse.task.distances import Distiller

RANGE_SAMPLES, COST_SAMPLES, FEWEST, AT_A_TIME = 512, 256, 32, 64
WORK = 2e12  # operations for measuring costs: large nets are measured on fewer samples, FEWEST at least


class Net:
    """A subject's teacher, its sites and their inputs, and the ranges and biases of what is built from it.

    ``activation_bits`` is what inputs of layers are rounded to (None: not at all), ``preset`` names the strategy.
    Norms of the subject are folded.
    """

    def __init__(self, subject: Subject, activation_bits: int | None, preset: str) -> None:
        self.subject, self.activation_bits, self.preset = subject, activation_bits, preset
        self.method: Bits = named("preset", PRESETS, preset, Bits)
        subject.fold()
        self.teacher, self.batches = subject.teacher, subject.samples
        self.survey: Survey = survey(self.teacher, subject.runs(self.teacher, RANGE_SAMPLES), subject.kept)
        self.sites = {site.key: site for site in self.survey.sites}
        sums = {name + OUTPUT: seen for name, seen in self.survey.sums.items()}
        self.values = {**self.survey.inputs, **sums}  # of all that may be rounded but weights

    @torch.no_grad()
    def forward(self, module: nn.Module, batch: Batch) -> Tensor:
        """Return outputs (B, ..., K) of ``module`` in float32."""
        return self.subject.forward(module, batch)

    def distance(self, module: nn.Module, pairs: Iterable[tuple[Batch, Tensor]]) -> float:
        """Return the mean distillation loss of ``module`` on batches with the original's outputs on them."""
        losses = [self.distiller(self.forward(module, batch), original) for batch, original in pairs]
        return float(torch.cat(losses).double().mean())

    def unseen(self, most: int) -> list[Batch]:
        """Return at most so many samples that nothing is fitted to; ``FEWEST`` though, where calib is small."""
        return self.subject.unseen(most, FEWEST)

    @functools.cached_property
    def distiller(self) -> Distiller:
        """The loss between the outputs of two models."""
        return self.subject.distance(self.forward(self.teacher, next(self.batches(AT_A_TIME))))

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
        found = sums_of_squares(weights, outputs, self.distiller, self.subject.seed, torch.square)
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
        return Range.covering(*limits(self.values[name], bits, way), bits, self.directions.get(name, "nearest"))

    @functools.cache  # noqa: B019
    def _clip(self, bits: int) -> Clip:
        return self.method.clip(self, bits)

    @torch.no_grad()
    def build(self, chosen: Sequence[Proposal]) -> nn.Module:
        """Return the teacher with the chosen weights, hooks that round inputs, and biases that make up for both."""
        module = twin(self.teacher)
        ranges = self.ranges(None)
        for proposal in chosen:
            if proposal.rounded is not None:
                module.get_parameter(proposal.name).copy_(proposal.rounded.decode())
            ranges |= self.ranges(proposal)
        attach(module, ranges)
        return self._corrected(module) if self.method.settles else module

    def _corrected(self, module: nn.Module) -> nn.Module:
        """The module with biases that bring means of outputs back, if on the samples of these it loses less."""
        batch, original, means = self._means
        moved = twin(module)
        outputs = correct_biases(moved, means, functools.partial(self.forward, moved, batch))
        corrected = float(self.distiller(outputs, original).double().mean())
        return moved if corrected < self.distance(module, [(batch, original)]) else module

    @functools.cached_property
    def _means(self) -> tuple[Batch, Tensor, Means]:
        """Samples, what the original makes of them, and the means of what its layers return."""
        count = samples_of(self.subject.shown[0])
        batch = next(self.batches(count, count))
        layers = {name for site in self.survey.sites for name in site.layers}
        return batch, *output_means(self.teacher, layers, functools.partial(self.forward, self.teacher, batch))
