"""Choosing a frequency table: the one with the fewest bytes of table and payload together.

Nothing here is part of the file format: a decoder never imports it. A candidate is an alphabet (a window of the
histogram; values outside are escaped) and a step size s of its levels, r = sqrt(count) / s. Each level is then moved
towards its prediction as long as that saves more in the table than it costs in the payload.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from noworse.codec.ans import UNARY_LIMIT
from noworse.codec.tables import MAX_LEVEL, MAX_ORDER, MAX_SYMBOLS, SPREADS, Levels, fold, predict, walk

_TAILS = (0, 1, 2, 4, 8, 16, 64, 256)  # symbols of at most so many occurrences are tried as escapes, from both ends
_STEPS = (0.7, 0.85, 1.0, 1.2, 1.4, 1.7, 2.0, 2.4)
_ROUGH = 1.4
_FINE = 1.0
_MANY = 65536  # symbols of a block from which on it has several lanes ..
_SPARSE = 0.4  # .. which cost about a byte per 8,192 symbols: more than 0.25 % at fewer bits per symbol than this
_MAX_MOVED = 256  # larger alphabets keep their levels: moving them gains nothing visible and takes long

_MORE = np.array([math.log2(16 / t) for t, _ in SPREADS])[:, None]  # bits per step, (spreads, 1)
_STOP = np.array([math.log2(16 / (16 - t)) for t, _ in SPREADS])[:, None]
_LOW = np.array([order for _, order in SPREADS])[:, None]


@dataclass(frozen=True)
class Histogram:
    """Counts of lo, lo + 1, .., and the values outside of that range with theirs (both may be empty)."""

    lo: int
    counts: NDArray[np.uint64]
    far: NDArray[np.int64]
    far_counts: NDArray[np.int64]


@dataclass(frozen=True)
class _Window:
    lo: int
    counts: NDArray[np.float64]
    escaped: int
    golomb: int
    side: float  # bits of the escaped values


def fit(histogram: Histogram) -> Levels:
    """The best table found for a histogram of at least two different values."""
    windows = [_window(histogram, a, b) for a, b in _ends(histogram)]
    windows = [w for w in windows if len(w.counts) > 1 or w.escaped]
    rough = [_best_width(w, _start(w, _ROUGH)) for w in windows]
    window = windows[min(range(len(windows)), key=lambda i: rough[i][0])]
    best_cost, best = math.inf, rough[0][1]
    for step in _STEPS:
        levels = _start(window, step)
        trials = [levels] if len(levels.values) > _MAX_MOVED else [levels, _moved(window, levels)]
        for trial in trials:
            cost, levels = _best_width(window, trial)
            if cost < best_cost:
                best_cost, best = cost, levels
    symbols = float(window.counts.sum()) + window.escaped
    return replace(best, single=symbols >= _MANY and best_cost < _SPARSE * symbols)


def fit_fast(histogram: Histogram) -> Levels:
    """A table for bytes (at most 256 values) that fits closely, without the search for the smallest one.

    Few bytes of a table are to be saved in planes of floats, and the search would take as long as coding them.
    """
    inner = histogram.counts.astype(np.float64)
    levels = replace(_start(_Window(histogram.lo, inner, 0, 0, 0.0), _FINE), wide=True)
    entropy = float(inner @ (math.log2(inner.sum()) - np.log2(np.maximum(inner, 1.0))))
    return replace(levels, single=inner.sum() >= _MANY and entropy < _SPARSE * float(inner.sum()))


def _ends(h: Histogram) -> list[tuple[int, int]]:
    """Candidate alphabets as index ranges of the histogram, at most MAX_SYMBOLS wide."""
    ends: dict[tuple[int, int], None] = {}
    for tail in _TAILS:
        kept = np.flatnonzero(h.counts > tail)
        if len(kept) and kept[-1] - kept[0] < MAX_SYMBOLS:
            ends[int(kept[0]), int(kept[-1]) + 1] = None
    if not ends or len(h.counts) > MAX_SYMBOLS:
        below = np.concatenate([np.zeros(1, np.uint64), np.cumsum(h.counts)])
        width = min(MAX_SYMBOLS - 1, len(h.counts))
        a = int(np.argmax(below[width:] - below[:-width]))
        kept = a + np.flatnonzero(h.counts[a : a + width])
        ends[int(kept[0]), int(kept[-1]) + 1] = None
    return list(ends)


def _window(h: Histogram, a: int, b: int) -> _Window:
    """An alphabet with the Golomb order that suits what it escapes."""
    outside = np.concatenate([np.arange(a), np.arange(b, len(h.counts))])
    outside = outside[h.counts[outside] > 0]
    values = np.concatenate([outside, h.far - h.lo])
    weights = np.concatenate([h.counts[outside].astype(np.int64), h.far_counts])
    inner = h.counts[a:b].astype(np.float64)
    if len(values) == 0:
        return _Window(h.lo + a, inner, 0, 0, 0.0)
    u = np.where(values >= b, 2 * (values - b), 2 * (a - 1 - values) + 1)
    golomb, side = 0, _golomb_bits(u, weights, 0)
    while golomb < MAX_ORDER and (longer := _golomb_bits(u, weights, golomb + 1)) <= side:
        golomb, side = golomb + 1, longer
    return _Window(h.lo + a, inner, int(weights.sum()), golomb, side)


def _golomb_bits(u: NDArray[np.int64], weights: NDArray[np.int64], order: int) -> float:
    """Length of the list of escaped values in bits."""
    log = np.frexp(((u >> order) + 1).astype(np.float64))[1] - 1
    return float(np.sum(weights * (2 * log + 1 + order)))


def _start(w: _Window, step: float) -> Levels:
    """Levels rounded to the nearest multiple of a step."""
    step = max(step, math.sqrt(max(float(w.counts.max()), w.escaped)) / (MAX_LEVEL - 1))
    r = np.rint(np.sqrt(w.counts) / step).astype(np.int64)
    r = np.maximum(r, w.counts > 0)
    escape = max(1, round(math.sqrt(w.escaped) / step)) if w.escaped else 0
    peak = int(np.argmax(r))
    first, ratio = _decay(r, peak)
    values = tuple(r.tolist())
    levels = Levels(w.lo + peak, peak, values, escape, w.golomb, False, False, first, ratio, 0)
    return replace(levels, spread=_spread(levels)[1])


def _decay(r: NDArray[np.int64], peak: int) -> tuple[int, int]:
    """Quotients of neighbouring levels in sixteenths: next to the peak, and further out (least squares)."""
    up, down = r[peak:].astype(np.float64), r[peak::-1].astype(np.float64)
    near = np.concatenate([up[1:2], down[1:2]])
    inner, outer = np.concatenate([up[1:-1], down[1:-1]]), np.concatenate([up[2:], down[2:]])
    first = float(near.mean()) / float(r[peak]) if len(near) else 0.0
    energy = float(inner @ inner)
    ratio = float(inner @ outer) / energy if energy else 0.0
    return min(16, max(1, round(16 * first))), min(16, max(1, round(16 * ratio)))


def _spread(levels: Levels) -> tuple[float, int]:
    """Bits of all deviations and the spread that needs the fewest."""
    seen = {0: levels.values[levels.below]}
    ranks = []
    for k in walk(levels.below, levels.above):
        p = predict(seen, k, levels.first, levels.ratio)
        seen[k] = levels.values[levels.below + k]
        ranks.append(fold(seen[k], p))
    steps = np.array(ranks, np.int64)[None, :] >> _LOW  # (spreads, symbols)
    rest = np.maximum(steps - UNARY_LIMIT + 1, 1).astype(np.float64)
    end = np.where(steps < UNARY_LIMIT, _STOP, 2 * np.floor(np.log2(rest)) + 1)
    costs = np.sum(np.minimum(steps, UNARY_LIMIT) * _MORE + end + _LOW, axis=1)
    best = int(np.argmin(costs)) if max(levels.below, levels.above) >= 2 else 1
    return float(costs[best]), best


def _moved(w: _Window, start: Levels) -> Levels:
    """Levels that minimise table plus payload bits one after the other, in coding order.

    The payload of a symbol that occurs c times and has weight v (in units of one occurrence) is v / ln 2 - c log2 v up
    to a constant: its own code words and the slots that it takes from all others.
    """
    t, order = SPREADS[start.spread]
    more = math.log2(16 / t)
    unit = float(w.counts.max()) / start.values[start.below] ** 2
    seen = {0: start.values[start.below]}
    for k in walk(start.below, start.above):
        p = predict(seen, k, start.first, start.ratio)
        target, count = start.values[start.below + k], float(w.counts[start.below + k])
        best = math.inf
        for r in {p, *range(max(target - 2, 1 if count else 0), target + 3)}:
            if r == 0 and count:
                continue
            v = r * r * unit
            cost = v / math.log(2) - (count * math.log2(v) if count else 0.0) + (fold(r, p) >> order) * more
            if cost < best:
                best, seen[k] = cost, r
    moved = replace(start, values=tuple(seen[k] for k in range(-start.below, start.above + 1)))
    return replace(moved, spread=_spread(moved)[1])


def _best_width(w: _Window, levels: Levels) -> tuple[float, Levels]:
    """Bits of table and payload with frequencies of 12 or 14 bits, whichever is smaller."""
    size = 8 * len(levels.to_bytes())
    counts = np.append(w.counts, float(w.escaped)) if w.escaped else w.counts
    used = counts > 0
    many = int(np.count_nonzero(levels.values)) + (w.escaped > 0) > 1 << 12
    few = float(counts.sum()) < 1 << 12  # 12 bits resolve single occurrences already
    best = (math.inf, levels)
    for wide in (False, True):
        if (many and not wide) or (few and wide and not many):
            continue
        trial = replace(levels, wide=wide)
        table = trial.table()
        cost = size + w.side + float(counts[used] @ (table.bits - np.log2(table.freqs[used].astype(np.float64))))
        if cost < best[0]:
            best = (cost, trial)
    return best
