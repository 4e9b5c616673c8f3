"""Tables as bytes, written from docs/format.md: for tests that need tables which no encoder would choose."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tests.codec.reference_codec import SPREADS

UNARY_LIMIT = 20


class Writer:
    """Collects values in the order in which a Reader will return them."""

    def __init__(self) -> None:
        self._pushed: list[tuple[int, int, int]] = []

    def uniform(self, value: int, bits: int) -> None:
        """Appends a value in 0 .. 2**bits - 1, at ``bits`` bits."""
        self._pushed.append((value, 1, bits))

    def more(self, yes: bool, t: int) -> None:
        """Appends a decision of probability t / 16: no owns the slots below 16 - t, yes the t slots above."""
        self._pushed.append((16 - t, t, 4) if yes else (0, 16 - t, 4))

    def gamma(self, value: int, order: int) -> None:
        """Appends a value >= 0 as exponential Golomb code: m = (value >> order) + 1 costs 2 log2 m + 1 bits."""
        m = (value >> order) + 1
        log = m.bit_length() - 1
        for _ in range(log):
            self.more(True, 8)
        self.more(False, 8)
        self.uniform(m - (1 << log), log)
        self.uniform(value & ((1 << order) - 1), order)

    def unary(self, value: int, t: int, order: int) -> None:
        """Appends a value >= 0 as ``value >> order`` steps, geometrically distributed, and ``order`` low bits."""
        steps = value >> order
        for _ in range(min(steps, UNARY_LIMIT)):
            self.more(True, t)
        if steps < UNARY_LIMIT:
            self.more(False, t)
        else:
            self.gamma(steps - UNARY_LIMIT, 0)
        self.uniform(value & ((1 << order) - 1), order)

    def to_bytes(self) -> bytes:
        """The number that holds all values."""
        x = 0
        for start, freq, bits in reversed(self._pushed):
            x = (x // freq << bits) + start + x % freq
        return x.to_bytes((x.bit_length() + 7) // 8, "little")


@dataclass(frozen=True)
class Levels:
    """The content of one table."""

    peak: int
    below: int
    values: tuple[int, ...]  # levels of peak - below, ..
    escape: int = 0  # level of the escape symbol; 0: none
    golomb: int = 0
    first: int = 1
    ratio: int = 1
    spread: int = 1

    def write(self, out: Writer) -> None:
        above = len(self.values) - 1 - self.below
        header(
            out,
            (self.golomb, self.escape) if self.escape else None,
            self.peak,
            self.below,
            above,
            self.values[self.below],
        )
        if len(self.values) > 1:
            out.uniform(self.first - 1, 4)
        if max(self.below, above) >= 2:
            out.uniform(self.ratio - 1, 4)
            out.uniform(self.spread, 3)
        seen = {0: self.values[self.below]}
        for k in walk(self.below, above):
            p = predict(seen, k, self.first, self.ratio)
            seen[k] = self.values[self.below + k]
            out.unary(fold(seen[k], p), *SPREADS[self.spread])


def stream_of(levels: Levels, wide: bool = False, single: bool = False) -> bytes:
    """The bytes of a stream's only table."""
    out = Writer()
    out.uniform(1, 1)
    out.more(wide, 4)
    out.more(single, 4)
    levels.write(out)
    return out.to_bytes()


def classes_of(tables: list[Levels], widths: list[int], wide: bool = False, single: bool = False) -> bytes:
    """The bytes of the tables of a stream with classes; the last one has no width."""
    out = Writer()
    out.uniform(len(tables) - 1, 4)
    for width in widths:
        out.gamma(width - 1, 0)
    out.more(wide, 4)
    out.more(single, 4)
    for levels in tables:
        levels.write(out)
    return out.to_bytes()


def constant(value: int) -> bytes:
    """Table of a stream in which every symbol is ``value``."""
    out = Writer()
    out.uniform(0, 1)
    out.gamma(zigzag(value), 0)
    return out.to_bytes()


def header(out: Writer, escape: tuple[int, int] | None, peak: int, below: int, above: int, level: int) -> None:
    """The fields up to the level of the peak."""
    out.more(escape is not None, 4)
    if escape is not None:
        out.gamma(escape[0], 1)
        out.gamma(escape[1] - 1, 1)
    out.gamma(zigzag(peak), 0)
    out.gamma(below, 2)
    out.gamma(zigzag(above - below), 1)
    out.gamma(level, 4)


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


def zigzag(value: int) -> int:
    """0, -1, 1, -2, .. as 0, 1, 2, 3, .."""
    return 2 * value if value >= 0 else -2 * value - 1
