"""Which layers of a file are products of two grids, and of what rank: all of them share one budget of bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from noworse.methods.lowrank.candidates import Analysis
from noworse.methods.lowrank.student import Choice

RANKS = 7  # that are offered of a layer: below break-even, each half of the one before
NEAR = (0.75, 1.4)  # of the best of these: ranks that are tried then
HOPELESS = 2.0  # times what the best plan loses: layers whose truncation alone is predicted to lose more are not tried
RUINED, EASED = 0.1, 1.5  # of what grids lose: where the best plan loses more, one for so many times the bits, too
WIDER, WIDEST = 1.5, 2.0  # times the ranks that rounding likes best: what tuning may prefer, as it prunes factors
ALONE = 4  # most layers that are tried one at a time

Plans = Mapping[str, Choice]
Loss = Callable[[Plans], float]  # of a file of one size, whatever the plan


def offered(analysis: Analysis, way: str) -> Sequence[int]:
    """Ranks to try, from just below break-even down."""
    most = analysis.most_rank(way)
    return sorted({most >> k for k in range(RANKS) if most >> k}, reverse=True)


def descents(analyses: Mapping[str, Analysis], loss: Callable[[float, Plans], float]) -> list[dict[str, Choice]]:
    """Plans of least loss by rounding alone, to a size, as ``loss(1, plan)`` tells, and perhaps to half as much again.

    A size at which rounding ruins grids and factors alike, although tuning would mend them, tells ranks apart no more.
    """
    found = []
    for ease in (1.0, EASED):
        at = partial(loss, ease)
        best = descend(analyses, at)
        found.append(best)
        if at(best) <= RUINED * at({}):
            break
    return [best for best in found if best]


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


def climb(analyses: Mapping[str, Analysis], bests: Sequence[Plans], tuned: Loss) -> dict[str, Choice]:
    """The plan of least loss after a little tuning.

    No factors at all, plans that are the best by rounding alone and their wider kin are tried; then the largest layers
    of the best of these, wider still, one after the other, each kept where it lowers the loss.
    """
    if not bests:
        return {}
    least, kept = tuned({}), dict[str, Choice]()
    found = [(tuned(plan), best, plan) for best in bests for plan in (best, widened(analyses, best, WIDER))]
    lost, best, plan = min(found, key=lambda each: each[0])
    for name in list(best)[:ALONE]:
        single = {**kept, **widened(analyses, {name: best[name]}, WIDEST)}
        trial = tuned(single)
        if trial < least:
            least, kept = trial, single
    return kept if least <= lost else dict(plan)


def widened(analyses: Mapping[str, Analysis], plan: Plans, times: float) -> dict[str, Choice]:
    """The plan with so many times its ranks, below break-even."""
    return {n: (way, min(round(times * rank), analyses[n].most_rank(way))) for n, (way, rank) in plan.items()}
