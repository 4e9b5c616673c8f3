"""Which layers of a file are products of two grids, and of what rank: all of them share one budget of bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from noworse.propose.ranks.candidates import Analysis
from noworse.propose.ranks.proposals import Proposal, Table, picked, proposals
from noworse.propose.ranks.student import Choice

EASED = (3.0, 2.0, 1.5)  # times the bits, at which plans are picked: tuning saves about so much of what rounding needs
EASE = 2.0  # the same, where one layer changes
LARGEST = 4  # layers that are tried one at a time, at most
GAIN = 0.05  # of the loss: less is chance
NARROWER = 2 / 3  # times the ranks: factors that lose more at first and less in the end
CUT = 0.05  # of the plan's loss: ranks whose cut alone is predicted to lose more are not lowered
GLANCE, LOOK = 0.15, 0.4  # of the iterations, by which plans are told apart, and by which ranks are

Plans = Mapping[str, Choice]
Tuned = Callable[[Plans, float], float]  # loss of a file of the size that is wanted, after such a share of iterations


def climb(analyses: Mapping[str, Analysis], limit: float, tuned: Tuned) -> dict[str, Choice]:
    """The plan of least loss after a little tuning, for layers whose codes may take ``limit`` bits in all.

    No factors at all and what the knapsack picks are tried; then each of the largest layers changes, from a grid to
    the product that the knapsack picks or back, and stays changed where that lowers the loss by more than chance.
    Ranks of the plan that is found are lowered as long as that helps after a longer tuning, after which it must still
    be ahead of no factors at all: grids may need more time.
    """
    table = {name: proposals(analysis) for name, analysis in analyses.items()}
    plans: list[dict[str, Choice]] = [{}]
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

    def fits(layer: str, proposal: Proposal) -> bool:
        return (proposal.choice is None) == (name in plan) if layer == name else proposal.choice == plan.get(layer)

    return {layer: [proposal for proposal in row if fits(layer, proposal)] for layer, row in table.items()}


def _narrowed(
    analyses: Mapping[str, Analysis], plan: dict[str, Choice], tuned: Tuned
) -> tuple[float, dict[str, Choice]]:
    """The best of a plan and its narrower kin, by a longer look. Ranks whose cut alone loses too much stay."""
    least = tuned(plan, LOOK)
    while True:
        less = {name: (way, round(NARROWER * rank)) for name, (way, rank) in plan.items()}
        kin = {n: less[n] if _serves(analyses[n], less[n], CUT * least) else plan[n] for n in plan}
        lost = math.inf if kin == plan else tuned(kin, LOOK)
        if lost >= least:
            return least, plan
        least, plan = lost, kin


def _serves(analysis: Analysis, choice: Choice, most: float) -> bool:
    """Whether cutting at this rank is predicted to lose at most so much."""
    return choice[1] > 0 and analysis.candidate(*choice).loss <= most
