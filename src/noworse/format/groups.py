"""Which small tensors of codes share one stream, so that one frequency table, one state and one checksum serve many.

Tensors are sorted by the mean magnitude of their codes; neighbours then have similar histograms. Among all ways to cut
the sorted list into consecutive groups, dynamic programming finds the one of least estimated bytes: the entropy of the
group's joint histogram, plus a fixed cost per stream and per symbol of its table.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

ATOMS = 48  # the search is quadratic in the number of items, so larger lists are cut into that many runs first
REACH = 127  # magnitudes beyond are counted as one symbol on either side
STREAM_BITS = 8 * 12.0  # checksum, state, lengths, settings of the table
SYMBOL_BITS = 4.0  # per symbol of the table


def group(codes: Sequence[NDArray[np.int32]]) -> list[list[int]]:
    """Return groups of indices of non-empty code arrays that share a stream, each sorted; deterministic."""
    if not codes:
        return []
    magnitude = [int(np.abs(c.astype(np.int64)).sum()) / c.size for c in codes]
    order = sorted(range(len(codes)), key=lambda i: (magnitude[i], i))
    atoms = [run.tolist() for run in np.array_split(order, min(ATOMS, len(order)))]
    counts = np.stack([sum(_histogram(codes[i]) for i in atom) for atom in atoms])
    return sorted(sorted(i for atom in atoms[a:b] for i in atom) for a, b in _cuts(counts))


def _histogram(codes: NDArray[np.int32]) -> NDArray[np.int64]:
    return np.bincount(np.clip(codes, -REACH - 1, REACH + 1) + (REACH + 1), minlength=2 * REACH + 3)


def _cuts(counts: NDArray[np.int64]) -> list[tuple[int, int]]:
    """The cheapest division of rows 0..n-1 into intervals: cost[b] = min over a of cost[a] + bits(a, b)."""
    sums = np.vstack([np.zeros_like(counts[:1]), np.cumsum(counts, axis=0)])
    best = np.zeros(len(sums))
    back = np.zeros(len(sums), np.int64)
    for end in range(1, len(sums)):
        totals = best[:end] + _bits(sums[end] - sums[:end])
        back[end] = np.argmin(totals)
        best[end] = totals[back[end]]
    cuts, end = [], len(counts)
    while end:
        cuts.append((int(back[end]), end))
        end = int(back[end])
    return cuts


def _bits(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Estimated bits of streams with these histograms, one per row: (rows, symbols) -> (rows,)."""
    counts = counts[:, counts.any(axis=0)].astype(np.float64)
    logs = np.log2(np.maximum(counts, 1.0))
    total = counts.sum(axis=1)
    entropy = total * np.log2(total) - (counts * logs).sum(axis=1)
    return np.asarray(entropy + STREAM_BITS + SYMBOL_BITS * (counts > 0).sum(axis=1))
