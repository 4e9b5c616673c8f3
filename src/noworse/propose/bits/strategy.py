"""How bits are found: what is proposed for a weight, what that costs, how inputs are rounded. Others subclass this.

``propose/strategies.py`` finds a strategy by the name of a preset.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from noworse.model.quantized import OUTPUT, attach
from noworse.model.tensors import twin
from noworse.propose.bits.clip import CLIPS, Clip
from noworse.propose.bits.costs import TRUE, simple_costs
from noworse.propose.bits.proposals import Proposal, propose, true_costs
from noworse.survey.moments import input_moments

if TYPE_CHECKING:
    from noworse.propose.bits.net import Net

MOMENT_SAMPLES, CLIP_SAMPLES = 4096, 128

Costs = tuple[list[float], NDArray[np.float64] | None]  # of each proposal, and what two cost beyond the sum (n, n)


class Bits:
    """The default: weights are rounded adaptively, costs are true changes of the outputs, alone and in pairs."""

    levels: tuple[int, ...] = (2, 3, 4, 6, 8, 16)  # bits that are proposed
    settles = True  # whether whole allocations are compared, and biases make up for rounding

    def propose(self, net: Net) -> list[list[Proposal]]:
        """What may be chosen for each site: here steps of least squares, rounded for the moments of inputs if known."""
        runs = (functools.partial(net.forward, net.teacher, batch) for batch in net.batches(MOMENT_SAMPLES))
        moments = input_moments(net.teacher, {site.key: site.weight for site in net.survey.sites}, runs)
        return [propose(site, self.levels, moments.get(site.key)) for site in net.survey.sites]

    def costs(self, net: Net, proposals: Sequence[Proposal], cost: str) -> Costs:
        """What each proposal costs: here true losses and pairs, or one of the yardsticks of ``COSTS``."""
        if cost == TRUE:
            batches = net.unseen(net.affordable(len(proposals)))
            return true_costs(net.teacher, net.forward, batches, net.sites, proposals, net.distiller)
        return simple_costs(cost, net.sites, proposals, {} if cost == "mse" else net.diagonals), None

    def directions(self, net: Net) -> dict[str, str]:
        """Which way the inputs of each layer are rounded, where not to nearest: "up" or "down"."""
        return {}

    def input_bits(self, asked: int | None, proposal: Proposal) -> int | None:
        """Bits of the inputs of a weight's layers, None: they stay as they are."""
        return asked

    def output_bits(self, asked: int | None) -> int | None:
        """Bits of outputs that end in sums, None: they stay as they are."""
        return asked

    @torch.no_grad()
    def clip(self, net: Net, bits: int) -> Clip:
        """Where inputs and outputs are clipped: here for the least squared error, or nowhere, as outputs tell.

        Few large values say little in the squared error, and may mean much: those of transformers do.
        """
        places = [*net.survey.inputs, *(name + OUTPUT for name in net.survey.sums)]
        batches = [(b, net.forward(net.teacher, b)) for b in net.batches(CLIP_SAMPLES)]

        def loss(clip: Clip) -> float:
            module = attach(twin(net.teacher), {name: net.clipped(name, bits, clip) for name in places})
            found = [net.distiller(net.forward(module, b), original) for b, original in batches]
            return float(torch.cat(found).double().mean())

        return min(CLIPS.values(), key=loss)


STRATEGY = Bits()
