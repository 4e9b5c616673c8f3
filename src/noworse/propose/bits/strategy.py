"""How bits are proposed for a weight, what they cost, and how inputs are rounded: by the names of presets."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noworse.errors import BadInput
from noworse.model.device import double
from noworse.model.quantized import add_rounding
from noworse.model.tensors import twin
from noworse.propose.bits.proposals import TRUE, Proposal, propose, simple_costs, true_costs
from noworse.propose.bits.sites import Values
from noworse.run.named import DEFAULT
from noworse.survey.moments import input_moments

if TYPE_CHECKING:
    from noworse.propose.bits.priced import Priced

MOMENT_SAMPLES, CLIP_SAMPLES = 4096, 128
SHRINKS = 40  # ranges that are tried for the least squared error

Clip = Callable[[Tensor, int, float, float], tuple[float, float]]  # of a sample (n,), bits, lowest and highest value
Costs = tuple[list[float], NDArray[np.float64] | None]  # of each proposal, and what two cost beyond the sum (n, n)


def clip_range(seen: Values, bits: int, clip: Clip) -> tuple[float, float]:
    """Return the range (lowest ≤ 0 ≤ highest) that ``bits`` bits are to cover; BadInput for values without a range."""
    if not (math.isfinite(seen.low) and math.isfinite(seen.high)):
        raise BadInput(f"values from {seen.low} to {seen.high} have no range: expected finite ones")
    low, high = min(seen.low, 0.0), max(seen.high, 0.0)
    return (low, high) if low == high else clip(double(seen.sample), bits, low, high)


def covering(flat: Tensor, bits: int, low: float, high: float) -> tuple[float, float]:
    """Return the range of all values: nothing is clipped."""
    return low, high


def least_squares(flat: Tensor, bits: int, low: float, high: float) -> tuple[float, float]:
    """Return the share of all values' range in which rounding errs least."""
    errors = []
    for k in range(SHRINKS):
        share = 1 - 0.02 * k
        step = share * (high - low) / (2**bits - 1)
        zero = round(-share * low / step)
        codes = (flat / step).round().clamp(-zero, 2**bits - 1 - zero)
        errors.append((float((codes * step - flat).square().mean()), -share))
    share = -min(errors)[1]
    return share * low, share * high


class BitStrategy:
    """The default: weights are rounded adaptively, costs are true changes of the outputs, alone and in pairs."""

    levels: tuple[int, ...] = (2, 3, 4, 6, 8, 16)  # bits that are proposed
    settles = True  # whether whole allocations are compared, and biases make up for rounding

    def propose(self, net: Priced) -> list[list[Proposal]]:
        """Return the proposals for each site: here steps of least squares, rounded for moments of the inputs."""
        weights = {site.key: site.weight for site in net.survey.sites}
        moments = input_moments(net.teacher, weights, net.subject.runs(net.teacher, MOMENT_SAMPLES))
        return [propose(site, self.levels, moments.get(site.key)) for site in net.survey.sites]

    def costs(self, net: Priced, proposals: Sequence[Proposal], cost: str) -> Costs:
        """Return what each proposal costs: here true losses and pairs, or one of the yardsticks of ``COSTS``."""
        if cost == TRUE:
            batches = net.unseen(net.affordable(len(proposals)))
            return true_costs(net.teacher, net.forward, batches, net.sites, proposals, net.distance, net.subject.work)
        return simple_costs(cost, net.sites, proposals, {} if cost == "mse" else net.diagonals), None

    def directions(self, net: Priced) -> dict[str, str]:
        """Return which way the inputs of each layer are rounded, where not to nearest: "up" or "down"."""
        return {}

    def input_bits(self, asked: int | None, proposal: Proposal | None) -> int | None:
        """Return the bits of inputs of a weight's layers, or without one of outputs that end in sums; None: as is."""
        return asked

    @torch.no_grad()
    def clip(self, net: Priced, bits: int) -> Clip:
        """Return where inputs and outputs are clipped: here for the least squared error, or nowhere, as outputs tell.

        Few large values say little in the squared error, and may mean much: those of transformers do.
        """
        pairs = net.compared(net.batches(CLIP_SAMPLES))

        def loss(clip: Clip) -> float:
            ranges = {name: net.clipped(name, bits, clip) for name in net.values}
            return net.mean_distance(add_rounding(twin(net.teacher), ranges), pairs)

        return min((least_squares, covering), key=loss)


PRESETS: dict[str, Any] = {DEFAULT: BitStrategy(), "paper": "noworse.papers.llc.bits:STRATEGY"}
