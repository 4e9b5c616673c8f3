"""Proposals for a file with products: each layer as one grid or as two, at several steps and ranks, and the knapsack.

A proposal has the bits of its codes and what it is predicted to lose: ½ tr(G δ X δᵀ) (see survey/kronecker.py),
with δ the error of the decoded weight, be it of rounding or of a cut. One proposal is taken for each layer.

Source: LLC (2024), Eq. 9, here with ranks among the choices; L² (ICCV 2023) for the rounding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

import torch
from torch import Tensor

from noworse.allocate.knapsack import Choices, allocate
from noworse.model.factorised import dense, shaped
from noworse.propose.grids.compensated import nearest, signed_codes
from noworse.propose.ranks.candidates import Analysis
from noworse.propose.ranks.student import Choice
from noworse.rate.entropy import code_bits

STEPS = tuple(accumulate([0.1, *[2**0.5] * 9], mul))  # in root mean squares of what is rounded, half an octave apart
ZONE = 0.6  # half of the zero bin in steps: near the best at these rates
SHARES = (4, 3)  # quarters of break-even: the ranks that are proposed, and halves of these, and so on


@dataclass(frozen=True)
class Proposal:
    """One way to write a layer: as a product (``choice``) or as one grid (None)."""

    choice: Choice | None
    bits: float  # ideal code length of all codes
    loss: float  # predicted, nats


Table = Mapping[str, Sequence[Proposal]]


@torch.no_grad()
def proposals(analysis: Analysis) -> list[Proposal]:
    """Return all that is proposed for one layer; each choice also with no bits at all: so there is one for any size."""
    shape = analysis.weight.shape
    nothing = analysis.lost(torch.zeros(shape, dtype=torch.float64))
    found = []
    for choice, parts in _splits(analysis):
        found.append(Proposal(choice, 0.0, nothing))
        for step in STEPS:
            steps = [step * float(part.square().mean().sqrt()) for part in parts]
            bits = sum(code_bits(signed_codes(part, s, ZONE)) for part, s in zip(parts, steps, strict=True))
            decoded = [nearest(part, s, ZONE) for part, s in zip(parts, steps, strict=True)]
            value = dense(choice[0], shaped(choice[0], shape, *decoded)) if choice else decoded[0]
            found.append(Proposal(choice, bits, analysis.lost(value)))
    return found


def _splits(analysis: Analysis) -> Iterator[tuple[Choice | None, Sequence[Tensor]]]:
    """What would be grids: the weight, or its factors."""
    yield None, [analysis.weight]
    for way in analysis.ways:
        for rank in offered(analysis.most_rank(way)):
            yield (way, rank), analysis.spectrum(way).factors(rank)


def offered(most: int) -> list[int]:
    """Return ranks below break-even, about a third apart, the largest first."""
    return sorted({share * most // 4 >> k for share in SHARES for k in range(most.bit_length())} - {0}, reverse=True)


def picked(table: Table, limit: float) -> dict[str, Choice]:
    """Return the layers in factors of the allocation that is predicted to lose least within ``limit`` bits."""
    rows = list(table.values())
    choices = Choices([[p.loss for p in row] for row in rows], [[p.bits for p in row] for row in rows])
    taken = {name: row[j].choice for name, row, j in zip(table, rows, allocate(choices, limit), strict=True)}
    return {name: choice for name, choice in taken.items() if choice is not None}
