"""Which layers of a file are products of two grids, and of what rank: all of them share one budget of bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from noworse.methods.lowrank.candidates import Analysis
from noworse.methods.lowrank.student import Choice

RANKS = 7  # that are offered of a layer: below break-even, each half of the one before
NEAR = (0.75, 1.4)  # of the best of these: ranks that are tried then
HOPELESS = 2.0  # times what the best plan loses: layers whose truncation alone is predicted to lose more are not tried
WIDER = 1.5  # times the ranks that rounding likes best: what tuning may prefer, as it prunes factors

Plans = Mapping[str, Choice]
Loss = Callable[[Plans], float]  # of a file of one size, whatever the plan


def offered(analysis: Analysis, way: str) -> Sequence[int]:
    """Ranks to try, from just below break-even down."""
    most = analysis.most_rank(way)
    return sorted({most >> k for k in range(RANKS) if most >> k}, reverse=True)


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


def finalists(analyses: Mapping[str, Analysis], best: Plans) -> list[dict[str, Choice]]:
    """Plans between which a little tuning decides: no factors, the ``best`` by rounding alone, and its wider kin."""
    wide = {n: (way, min(round(WIDER * rank), analyses[n].most_rank(way))) for n, (way, rank) in best.items()}
    return [{}, dict(best), wide] if best else [{}]
