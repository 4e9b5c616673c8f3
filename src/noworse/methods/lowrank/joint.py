"""Which layers of a file are products of two grids, and of what rank: all of them share one budget of bits."""

from __future__ import annotations

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
            ranks, most = offered(analysis, way), analysis.most_rank(way)
            for nearby in (False, True):
                if nearby:
                    middle = best[name][1] if name in best and best[name][0] == way else 0
                    ranks = [rank for share in NEAR if 1 <= (rank := round(share * middle)) <= most]
                for rank in ranks:
                    if analysis.candidate(way, rank).loss > HOPELESS * least:
                        continue
                    found = loss({**base, name: (way, rank)})
                    if found < least:
                        best, least = {**base, name: (way, rank)}, found
    return best


def finalists(analyses: Mapping[str, Analysis], best: Plans) -> list[dict[str, Choice]]:
    """Plans between which a little tuning decides: no factors, the ``best`` by rounding alone, and its wider kin."""
    wide = {n: (way, min(round(WIDER * rank), analyses[n].most_rank(way))) for n, (way, rank) in best.items()}
    return [{}, dict(best), wide] if best else [{}]
