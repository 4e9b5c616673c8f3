"""What a search for bits asks of a method, and the method of the default preset.

A method sees a net by the protocol ``Net``, proposes each weight at several bit-widths, prices the proposals, and says
how inputs of layers are rounded. ``propose/strategies.py`` finds it by name.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from noworse.model.quantized import OUTPUT, Range, attach
from noworse.propose.bits.clip import CLIPS, Clip
from noworse.propose.bits.costs import TRUE, fisher_diagonals, simple_costs
from noworse.propose.bits.proposals import Proposal, propose, true_costs
from noworse.propose.bits.sites import Site, Survey
from noworse.survey.flops import count_flops
from noworse.survey.moments import input_moments
from noworse.task import data
from noworse.task.data import Batch
from noworse.task.distances import Distiller

COST_SAMPLES, FEWEST, MOMENT_SAMPLES, CLIP_SAMPLES = 256, 32, 4096, 128
WORK = 2e12  # operations for measuring costs: large nets are measured on fewer samples, FEWEST at least

Costs = tuple[list[float], NDArray[np.float64] | None]  # of each proposal, and what two cost beyond the sum (n, n)


class Net(Protocol):
    """The net in float32 with norms folded, what calibration data says of it, and that data."""

    teacher: nn.Module
    survey: Survey
    sites: dict[str, Site]  # by name of the weight
    seed: int

    @property
    def distiller(self) -> Distiller:
        """The loss between the outputs of two models."""

    def forward(self, module: nn.Module, batch: Batch) -> Tensor:
        """Outputs (B, ..., K) of ``module``, without their graph."""

    def graphed(self, batch: Batch) -> Tensor:
        """Outputs of the teacher, with their graph."""

    def batches(self, most: int) -> Iterator[Batch]:
        """The first samples of those that rounding and ranges are fitted to, a few at a time."""

    def unseen(self, most: int) -> list[Batch]:
        """At most so many samples that nothing is fitted to."""

    def losses(self) -> Tensor:
        """Per-sample losses of the teacher with the labels of calib, with their graph."""

    def ranges(self, proposal: Proposal) -> dict[str, Range]:
        """The ranges of the inputs of a weight's layers, by layer."""

    def clipped(self, name: str, bits: int, clip: Clip) -> Range:
        """The range of a layer's input, or of its output where the name ends in ``OUTPUT``."""


class Bits(Protocol):
    """A method to find bits; ``settles``: whole allocations are compared, and biases make up for rounding."""

    levels: tuple[int, ...]  # bits that are proposed
    settles: bool

    def propose(self, net: Net) -> list[list[Proposal]]:
        """What may be chosen for each site."""

    def costs(self, net: Net, proposals: Sequence[Proposal], cost: str) -> Costs:
        """What each of the proposals costs, in one way of ``COSTS`` where there is a choice."""

    def directions(self, net: Net) -> dict[str, str]:
        """Which way the inputs of each layer are rounded: "nearest", "up" or "down"."""

    def input_bits(self, asked: int | None, proposal: Proposal) -> int | None:
        """Bits of the inputs of a weight's layers, None: they stay as they are."""

    def output_bits(self, asked: int | None) -> int | None:
        """Bits of outputs that end in sums, None: they stay as they are."""

    def clip(self, net: Net, bits: int) -> Clip:
        """Where inputs and outputs of so many bits are clipped."""


class Measured:
    """Weights rounded adaptively; costs are true changes of the outputs, alone and in pairs."""

    levels = (2, 3, 4, 6, 8, 16)
    settles = True

    def propose(self, net: Net) -> list[list[Proposal]]:
        """Every weight with steps of least squares, rounded for the second moments of its inputs where known."""
        runs = (functools.partial(net.forward, net.teacher, batch) for batch in net.batches(MOMENT_SAMPLES))
        moments = input_moments(net.teacher, {site.key: site.weight for site in net.survey.sites}, runs)
        return [propose(site, self.levels, moments.get(site.key)) for site in net.survey.sites]

    def costs(self, net: Net, proposals: Sequence[Proposal], cost: str) -> Costs:
        """True losses and pairs, or one of the yardsticks."""
        if cost == TRUE:
            batches = net.unseen(affordable(net, len(proposals)))
            return true_costs(net.teacher, net.forward, batches, net.sites, proposals, net.distiller)
        return simple_costs(cost, net.sites, proposals, {} if cost == "mse" else self._diagonals(net)), None

    def _diagonals(self, net: Net) -> Mapping[str, Tensor]:
        for site in net.survey.sites:
            site.weight.requires_grad_(True)
        outputs = ((net.graphed(batch), data.batch_size(batch)) for batch in net.batches(COST_SAMPLES))
        found = fisher_diagonals(net.sites, outputs, net.distiller, net.seed)
        net.teacher.requires_grad_(False)
        return found

    def directions(self, net: Net) -> dict[str, str]:
        """All to nearest."""
        return dict.fromkeys(net.survey.inputs, "nearest")

    def input_bits(self, asked: int | None, proposal: Proposal) -> int | None:
        """As many as were asked for."""
        return asked

    def output_bits(self, asked: int | None) -> int | None:
        """The same."""
        return asked

    @torch.no_grad()
    def clip(self, net: Net, bits: int) -> Clip:
        """Ranges of least squared error, or those that clip nothing, by what rounding activations alone loses.

        Few large values say little in the squared error, and may mean much: those of transformers do.
        """
        places = [*net.survey.inputs, *(name + OUTPUT for name in net.survey.sums)]
        batches = [(b, net.forward(net.teacher, b)) for b in net.batches(CLIP_SAMPLES)]

        def loss(clip: Clip) -> float:
            module = attach(copy.deepcopy(net.teacher), {name: net.clipped(name, bits, clip) for name in places})
            found = [net.distiller(net.forward(module, b), original) for b, original in batches]
            return float(torch.cat(found).double().mean())

        return min(CLIPS.values(), key=loss)


def affordable(net: Net, proposals: int) -> int:
    """How many samples the true cost of so many proposals is measured on."""
    batch = next(net.batches(1))
    operations = count_flops(net.teacher, functools.partial(net.forward, batch=batch), data.batch_size(batch))
    return min(COST_SAMPLES, max(FEWEST, int(WORK / max(operations * proposals, 1))))


STRATEGY = Measured()
