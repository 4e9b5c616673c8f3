"""Which layers of a file are products of two grids, and of what rank: all of them share one budget of bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from noworse.methods.lowrank.candidates import Analysis
from noworse.methods.lowrank.student import Choice

RANKS = 7  # that are offered of a layer: below break-even, each half of the one before
NEAR = (0.75, 1.4)  # of the best of these: ranks that are tried then
HOPELESS = 2.0  # times what the best plan loses: ranks whose truncation alone is predicted to lose more are not tried
EASED = (1.0, 1.5, 2.0)  # times the bits: the first of these at which rounding does not ruin the best plan
NOTHING, RUINED = 0.01, 0.1  # so few bits that nothing is left of the weights; the share of what that loses
WIDER, WIDEST = 1.5, 2.0  # times the ranks that rounding likes best: what tuning may prefer, as it prunes factors
ALONE = 4  # most layers that are tried one at a time
NARROWER = 2 / 3  # times the ranks: factors that lose more at first and less in the end
GLANCE, LOOK = 0.15, 0.4  # of the iterations, by which plans are told apart, and by which ranks are

Plans = Mapping[str, Choice]
Loss = Callable[[Plans], float]  # of a file of one size, whatever the plan
Tuned = Callable[[Plans, float], float]  # the same after such a share of the iterations


def offered(analysis: Analysis, way: str) -> Sequence[int]:
    """Ranks to try, from just below break-even down."""
    most = analysis.most_rank(way)
    return sorted({most >> k for k in range(RANKS) if most >> k}, reverse=True)


def sought(analyses: Mapping[str, Analysis], loss: Callable[[float, Plans], float]) -> dict[str, Choice]:
    """The plan of least loss by rounding alone, which ``loss`` tells for so many times the bits of the file.

    Where rounding to a size ruins every plan, although tuning would mend them, ranks are told apart by a larger one.
    """
    best: dict[str, Choice] = {}
    ruined = RUINED * loss(NOTHING, {})
    for ease in EASED:
        at = partial(loss, ease)
        best = descend(analyses, at)
        if at(best) <= ruined:
            break
    return best


def descend(analyses: Mapping[str, Analysis], loss: Loss) -> dict[str, Choice]:
    """The plan of least ``loss``, layer by layer, largest first. Layers that factors do not serve stay dense."""
    best: dict[str, Choice] = {}
    least = loss(best)
    for name, analysis in analyses.items():
        base = best
        for way in analysis.ways:

            def at(rank: int, base: Plans = base, name: str = name, way: str = way) -> float:
                return loss({**base, name: (way, rank)})

            limit, most = HOPELESS * least, analysis.most_rank(way)
            lost, rank = _lowest([r for r in offered(analysis, way) if analysis.candidate(way, r).loss <= limit], at)
            if lost < least:
                near = {min(max(round(share * rank), 1), most) for share in NEAR} - {rank}
                lost, rank = min([(lost, rank), *((at(r), r) for r in sorted(near))])
                best, least = {**base, name: (way, rank)}, lost
    return best


def _lowest(ranks: Sequence[int], loss: Callable[[int], float]) -> tuple[float, int]:
    """The least loss of falling ranks, and its rank; the descent ends where a rank loses more than the one before."""
    found: list[tuple[float, int]] = []
    for rank in ranks:
        found.append((loss(rank), rank))
        if len(found) > 1 and found[-1][0] > found[-2][0]:
            break
    return min(found, default=(math.inf, 0))


def climb(analyses: Mapping[str, Analysis], best: Plans, tuned: Tuned) -> dict[str, Choice]:
    """The plan of least loss after a little tuning.

    No factors at all, the ``best`` plan by rounding alone and its wider kin are tried; then the largest layers of
    ``best``, wider still, one after the other, each kept where it lowers the loss. Ranks of the plan that is found are
    lowered as long as that helps after a longer tuning.
    """
    if not best:
        return {}
    lost = [(tuned(plan, GLANCE), plan) for plan in ({}, dict(best), scaled(analyses, best, WIDER))]
    least, kept = lost[0]
    for name in list(best)[:ALONE]:
        plan = {**kept, **scaled(analyses, {name: best[name]}, WIDEST)}
        trial = tuned(plan, GLANCE)
        if trial < least:
            least, kept = trial, plan
    return _narrowed(analyses, min([*lost, (least, kept)], key=lambda each: each[0])[1], tuned)


def _narrowed(analyses: Mapping[str, Analysis], plan: dict[str, Choice], tuned: Tuned) -> dict[str, Choice]:
    """The best of a plan and its narrower kin, by a longer look. Ranks that truncation alone would ruin stay."""
    least = tuned(plan, LOOK) if plan else 0.0
    while True:
        less = scaled(analyses, plan, NARROWER)
        kin = {n: less[n] if analyses[n].candidate(*less[n]).loss <= HOPELESS * least else plan[n] for n in plan}
        if kin == plan:
            return plan
        lost = tuned(kin, LOOK)
        if lost >= least:
            return plan
        least, plan = lost, kin


def scaled(analyses: Mapping[str, Analysis], plan: Plans, times: float) -> dict[str, Choice]:
    """The plan with so many times its ranks, below break-even."""
    return {n: (way, min(round(times * rank), analyses[n].most_rank(way))) for n, (way, rank) in plan.items()}
