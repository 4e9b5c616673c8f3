"""Which layers of a file are products of two grids, and of what rank: all of them share one budget of bits.

Each layer is proposed as one grid or as two, at several steps and ranks. A proposal has the bits of its codes and what
it is predicted to lose: ½ tr(G δ X δᵀ) (see survey/curvature.py), with δ the error of the decoded weight, be it of
rounding or of a cut. A knapsack picks one for each layer, and a little tuning decides between plans.

Source: LLC (2024), Eq. 9, here with ranks among the choices; L² (ICCV 2023) for the rounding.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import mul

import torch
from torch import Tensor

from noworse.allocate.knapsack import Choices, allocate
from noworse.model.factorised import product, shaped
from noworse.propose.grids.compensated import nearest, signed_codes
from noworse.propose.ranks.candidates import Analysis
from noworse.propose.ranks.student import RankChoice
from noworse.rate.counter import code_bits

STEPS = tuple(accumulate([0.1, *[2**0.5] * 9], mul))  # in root mean squares of what is rounded, half an octave apart
ZONE = 0.6  # half of the zero bin in steps: near the best at these rates
SHARES = (4, 3)  # quarters of break-even: the ranks that are proposed, and halves of these, and so on
EASED = (3.0, 2.0, 1.5)  # times the bits, at which plans are picked: tuning saves about so much of what rounding needs
EASE = 2.0  # the same, where one layer changes
LARGEST = 4  # layers that are tried one at a time, at most
GAIN = 0.05  # of the loss: less is chance
NARROWER = 2 / 3  # times the ranks: factors that lose more at first and less in the end
CUT = 0.05  # of the plan's loss: ranks whose cut alone is predicted to lose more are not lowered
GLANCE, LOOK = 0.15, 0.4  # of the iterations, by which plans are told apart, and by which ranks are

Plans = Mapping[str, RankChoice]
Tuned = Callable[[Plans, float], float]  # loss of a file of the size that is wanted, after such a share of iterations


@dataclass(frozen=True)
class RankProposal:
    """One way to write a layer: as a product (``choice``) or as one grid (None)."""

    choice: RankChoice | None
    bits: float  # ideal code length of all codes
    loss: float  # predicted, nats


Table = Mapping[str, Sequence[RankProposal]]


@torch.no_grad()
def proposals(analysis: Analysis) -> list[RankProposal]:
    """Return all that is proposed for one layer; each choice also with no bits at all: so there is one for any size."""
    shape = analysis.weight.shape
    nothing = analysis.lost(torch.zeros_like(analysis.weight))
    found = []
    for choice, parts in _splits(analysis):
        found.append(RankProposal(choice, 0.0, nothing))
        for step in STEPS:
            steps = [step * float(part.square().mean().sqrt()) for part in parts]
            bits = sum(code_bits(signed_codes(part, s, ZONE)) for part, s in zip(parts, steps, strict=True))
            decoded = [nearest(part, s, ZONE) for part, s in zip(parts, steps, strict=True)]
            value = product(choice[0], shaped(choice[0], shape, *decoded)) if choice else decoded[0]
            found.append(RankProposal(choice, bits, analysis.lost(value)))
    return found


def _splits(analysis: Analysis) -> Iterator[tuple[RankChoice | None, Sequence[Tensor]]]:
    """What would be grids: the weight, or its factors."""
    yield None, [analysis.weight]
    for way in analysis.ways:
        for rank in offered(analysis.most_rank(way)):
            yield (way, rank), analysis.spectrum(way).factors(rank)


def offered(most: int) -> list[int]:
    """Return ranks below break-even, about a third apart, the largest first."""
    return sorted({share * most // 4 >> k for share in SHARES for k in range(most.bit_length())} - {0}, reverse=True)


def picked(table: Table, limit: float) -> dict[str, RankChoice]:
    """Return the layers in factors of the allocation that is predicted to lose least within ``limit`` bits."""
    rows = list(table.values())
    choices = Choices([[p.loss for p in row] for row in rows], [[p.bits for p in row] for row in rows])
    taken = {name: row[j].choice for name, row, j in zip(table, rows, allocate(choices, limit), strict=True)}
    return {name: choice for name, choice in taken.items() if choice is not None}


def climb(analyses: Mapping[str, Analysis], limit: float, tuned: Tuned) -> dict[str, RankChoice]:
    """Return the plan of least loss after a little tuning, for layers whose codes may take ``limit`` bits in all.

    No factors at all and what the knapsack picks are tried; then each of the largest layers changes, from a grid to
    the product that the knapsack picks or back, and stays changed where that lowers the loss by more than chance.
    Ranks of the plan that is found are lowered as long as that helps after a longer tuning, after which it must still
    be ahead of no factors at all: grids may need more time.
    """
    table = {name: proposals(analysis) for name, analysis in analyses.items()}
    plans: list[dict[str, RankChoice]] = [{}]
    for ease in EASED:
        plan = picked(table, ease * limit)
        plans += [plan] * (plan not in plans)
    least, best = min(((tuned(plan, GLANCE), plan) for plan in plans), key=lambda each: each[0])
    for name in [name for name, row in table.items() if row[-1].choice][:LARGEST]:
        plan = picked(_changed(table, best, name), EASE * limit)
        lost = math.inf if plan in plans else tuned(plan, GLANCE)
        if lost < least - GAIN * abs(least):
            least, best = lost, plan
    if not best:
        return best
    least, best = _narrowed(analyses, best, tuned)
    return best if least < tuned({}, LOOK) else {}


def _changed(table: Table, plan: Plans, name: str) -> Table:
    """What leaves all layers as ``plan`` has them but one, which becomes a product where it is none, or a grid."""

    def fits(layer: str, proposal: RankProposal) -> bool:
        return (proposal.choice is None) == (name in plan) if layer == name else proposal.choice == plan.get(layer)

    return {layer: [proposal for proposal in row if fits(layer, proposal)] for layer, row in table.items()}


def _narrowed(
    analyses: Mapping[str, Analysis], plan: dict[str, RankChoice], tuned: Tuned
) -> tuple[float, dict[str, RankChoice]]:
    """The best of a plan and its narrower kin, by a longer look. Ranks whose cut alone loses too much stay."""
    least = tuned(plan, LOOK)
    while True:
        kin = dict(plan)
        for name, (way, rank) in plan.items():
            less = round(NARROWER * rank)
            if less > 0 and analyses[name].candidate(way, less).loss <= CUT * least:
                kin[name] = way, less
        lost = math.inf if kin == plan else tuned(kin, LOOK)
        if lost >= least:
            return least, plan
        least, plan = lost, kin
