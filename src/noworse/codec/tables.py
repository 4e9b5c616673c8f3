"""Frequency tables: which integers occur how often, in a few bytes.

What is stored are *levels* r >= 0, and the frequency of a symbol is proportional to r². The square root is the scale on
which all counts are equally uncertain: rounding sqrt(count) to steps of s costs about 0.24 s² bits per symbol of the
alphabet, whatever its count, so that one step size serves the peak and the tails. Levels are predicted from their
neighbours by a decaying, symmetric shape, and the deviations are coded as geometric numbers.

Byte layout
-----------
The bytes are one number, read by noworse.codec.ans (``uniform(bits)``, ``more(t)``, ``gamma(order)``,
``unary(t, order)``); signed
fields are zigzag coded (0, -1, 1, -2 .. as 0, 1, 2, 3 ..). In this order:

    uniform(1)    0: constant stream, followed by the value as signed gamma(0) and nothing else
                  1: a table follows
    more(4)       wide: frequencies sum to 1 << 14, otherwise to 1 << 12
    more(4)       single: blocks of any length have one lane (see rans.py)
    more(4)       has an escape symbol; then
                  gamma(1)  Golomb order of escaped values, 0 .. 30
                  gamma(1)  level of the escape symbol, minus 1
    gamma(0)      signed: the value of the symbol that prediction starts from, the peak
    gamma(2)      below: number of symbols below the peak
    gamma(1)      signed: number of symbols above the peak, minus below
    gamma(4)      level of the peak
    uniform(4)    first - 1; only where above + below >= 1
    uniform(4)    ratio - 1, and
    uniform(3)    spread; only where max(above, below) >= 2 (otherwise ratio = 1, spread = 1)
    unary(t, order) for each other symbol peak + k, in the order k = 1, -1, 2, -2, .. where they exist, with
                  (t, order) = SPREADS[spread]: the level r, folded around its prediction p

    inner = level of the neighbour towards the peak;  p = (q * inner + 8) >> 4 with q = first for |k| = 1, else ratio
    where k < 0 and the symbol at -k exists:          p = (p + level(-k) + 1) >> 1
    folding: the values 0, 1, 2, .. stand for r = p, p + 1, p - 1, p + 2, .. 0, 2p, 2p + 1, 2p + 2, ..

Symbols in the order of their values, the escape symbol last, have weights w = r² and total W. Frequencies f are
f = max(1, (w << bits) div W) where w > 0, else 0. While their sum is below 1 << bits, the symbol with the largest
w / (2f + 1) gains one; while it is above, the symbol with f > 1 and the smallest w / (2f - 1) loses one; ties go to the
symbol that comes first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noworse.codec import _native
from noworse.codec.ans import Reader, Writer
from noworse.errors import CorruptFile

MAX_CODE = 1 << 30
MAX_SYMBOLS = 4096
MAX_LEVEL = 1 << 14
MAX_ORDER = 30
SPREADS = ((1, 0), (3, 0), (6, 0), (10, 0), (9, 1), (9, 2), (9, 4), (9, 6))
_SMALL = (1, 1)  # ratio and spread of tables without second neighbours


@dataclass(frozen=True)
class Table:
    """Frequencies (K,) of the symbols lo, lo + 1, ..; the last is the escape symbol's where ``golomb >= 0``."""

    lo: int
    freqs: NDArray[np.uint16]  # sums to 1 << bits
    bits: int
    golomb: int = -1  # order of the escaped values' code; -1: no escape symbol
    single: bool = False  # one lane in blocks of any length

    @property
    def constant(self) -> bool:
        """True where every symbol is ``lo`` and all blocks are empty."""
        return self.bits == 0


@dataclass(frozen=True)
class Levels:
    """The content of a table's bytes; see the module's docstring."""

    peak: int
    below: int
    values: tuple[int, ...]  # levels of peak - below, ..
    escape: int  # level of the escape symbol; 0: none
    golomb: int
    wide: bool
    single: bool
    first: int
    ratio: int
    spread: int

    @property
    def above(self) -> int:
        """Number of symbols above the peak."""
        return len(self.values) - 1 - self.below

    def to_bytes(self) -> bytes:
        """The table as stored in files."""
        out = Writer()
        out.uniform(1, 1)
        for flag in (self.wide, self.single, self.escape > 0):
            out.more(flag, 4)
        if self.escape > 0:
            out.gamma(self.golomb, 1)
            out.gamma(self.escape - 1, 1)
        out.gamma(zigzag(self.peak), 0)
        out.gamma(self.below, 2)
        out.gamma(zigzag(self.above - self.below), 1)
        out.gamma(self.values[self.below], 4)
        if len(self.values) > 1:
            out.uniform(self.first - 1, 4)
        if max(self.below, self.above) >= 2:
            out.uniform(self.ratio - 1, 4)
            out.uniform(self.spread, 3)
        seen = {0: self.values[self.below]}
        for k in walk(self.below, self.above):
            p = predict(seen, k, self.first, self.ratio)
            seen[k] = self.values[self.below + k]
            out.unary(fold(seen[k], p), *SPREADS[self.spread])
        return out.to_bytes()

    def table(self) -> Table:
        """The frequencies that follow; CorruptFile where fewer than two symbols are used."""
        bits = 14 if self.wide else 12
        levels = [*self.values, self.escape] if self.escape else self.values
        weights = np.array(levels, np.uint64) ** np.uint64(2)
        try:
            freqs = _native.normalise(weights, bits)
        except ValueError as error:
            raise CorruptFile(f"a frequency table is damaged: {error}") from error
        if int(freqs.max()) >> bits:
            raise CorruptFile("a frequency table uses one symbol only, expected at least two")
        return Table(self.peak - self.below, freqs, bits, self.golomb if self.escape else -1, self.single)


def constant(value: int) -> bytes:
    """Table of a stream in which every symbol is ``value``."""
    out = Writer()
    out.uniform(0, 1)
    out.gamma(zigzag(value), 0)
    return out.to_bytes()


def parse(data: bytes) -> Table:
    """Table from its bytes; CorruptFile where they are damaged."""
    source = Reader(data)
    if source.uniform(1):
        table = _read_levels(source).table()
    else:
        table = Table(unzigzag(source.gamma(0)), np.ones(1, np.uint16), 0)
    source.finish()
    high = table.lo + len(table.freqs) - 1 - (table.golomb >= 0)
    if table.lo < -MAX_CODE or high > MAX_CODE:
        raise CorruptFile(f"a frequency table covers {table.lo} .. {high}, expected at most {MAX_CODE} in size")
    return table


def _read_levels(source: Reader) -> Levels:
    wide, single = source.more(4), source.more(4)
    golomb, escape = (source.gamma(1), source.gamma(1) + 1) if source.more(4) else (0, 0)
    peak, below = unzigzag(source.gamma(0)), source.gamma(2)
    above = below + unzigzag(source.gamma(1))
    if above < 0 or below + above >= MAX_SYMBOLS:
        raise CorruptFile(f"a frequency table has {below + above + 1} symbols, expected 1 .. {MAX_SYMBOLS}")
    if golomb > MAX_ORDER or escape > MAX_LEVEL:
        raise CorruptFile(f"a frequency table has an escape symbol of order {golomb} and level {escape}")
    seen = {0: source.gamma(4)}
    first = source.uniform(4) + 1 if above + below >= 1 else 1
    ratio, spread = (source.uniform(4) + 1, source.uniform(3)) if max(above, below) >= 2 else _SMALL
    for k in walk(below, above):
        p = predict(seen, k, first, ratio)
        seen[k] = unfold(source.unary(*SPREADS[spread]), p)
        if seen[k] > MAX_LEVEL:
            break
    if max(seen.values()) > MAX_LEVEL:
        raise CorruptFile(f"a frequency table has a level of {max(seen.values())}, expected at most {MAX_LEVEL}")
    values = tuple(seen[k] for k in range(-below, above + 1))
    return Levels(peak, below, values, escape, golomb, wide, single, first, ratio, spread)


def walk(below: int, above: int) -> Iterator[int]:
    """Positions relative to the peak in coding order: 1, -1, 2, -2, .. as far as both sides reach."""
    for j in range(1, max(below, above) + 1):
        if j <= above:
            yield j
        if j <= below:
            yield -j


def predict(seen: dict[int, int], k: int, first: int, ratio: int) -> int:
    """Prediction of the level at position k from those nearer to the peak."""
    inner = seen[k - 1] if k > 0 else seen[k + 1]
    p = ((first if -1 <= k <= 1 else ratio) * inner + 8) >> 4
    if k < 0 and -k in seen:
        p = (p + seen[-k] + 1) >> 1
    return p


def fold(level: int, p: int) -> int:
    """Rank of a level in the order p, p + 1, p - 1, .., 0, 2p, 2p + 1, .."""
    d = level - p
    if d > p:
        return level
    return 2 * d - 1 if d > 0 else -2 * d


def unfold(rank: int, p: int) -> int:
    """Inverse of fold."""
    if rank > 2 * p:
        return rank
    return p + (rank + 1) // 2 if rank & 1 else p - rank // 2


def zigzag(value: int) -> int:
    """0, -1, 1, -2, .. as 0, 1, 2, 3, .."""
    return 2 * value if value >= 0 else -2 * value - 1


def unzigzag(code: int) -> int:
    """Inverse of zigzag."""
    return -(code + 1) // 2 if code & 1 else code // 2
