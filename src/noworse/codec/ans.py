"""A whole number as an entropy coder: asymmetric numeral systems (Duda 2013) without renormalisation.

A number x holds a message. Pushing a value that occupies ``freq`` of ``1 << bits`` slots, from slot ``start`` on, makes
x about ``(1 << bits) / freq`` times larger, which is what the value costs:

    x  ->  (x div freq) << bits  +  start  +  x mod freq

Popping reads the slot ``x mod (1 << bits)``, finds the value it belongs to, and inverts the step. Last in, first out:
the writer therefore collects its values and pushes them from the last to the first. The number starts at 0 and is
stored as little-endian bytes without trailing zeros, so a message wastes about a byte. A writer's work grows with the
square of the length, which suits messages of a few bytes up to a few thousand: frequency tables.

A reader may be handed the longest message allowed, so it keeps the number x = high * factor * 2^bits + low apart: steps
change the low part and the factor, and only when the low part runs out of bits is the whole number touched.
"""

from __future__ import annotations

from noworse.errors import CorruptFile

UNARY_LIMIT = 20
MAX_BYTES = 1 << 14
_MAX_LOG = 32
_WINDOW = 1024  # bits


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


class Reader:
    """Returns the values of a Writer in order; CorruptFile where the bytes hold none."""

    def __init__(self, data: bytes) -> None:
        if len(data) > MAX_BYTES:
            raise CorruptFile(f"a frequency table has {len(data)} bytes, expected at most {MAX_BYTES}")
        if data and data[-1] == 0:
            raise CorruptFile("a frequency table ends in a zero byte, which no writer stores")
        self._high, self._factor, self._low, self._bits = int.from_bytes(data, "little"), 1, 0, 0

    def _refill(self) -> None:
        """Splits the number anew, so that the low part has at least _WINDOW bits."""
        x = (self._high * self._factor << self._bits) + self._low
        self._high, self._factor, self._low, self._bits = x >> _WINDOW, 1, x & ((1 << _WINDOW) - 1), _WINDOW

    def uniform(self, bits: int) -> int:
        """See Writer.uniform."""
        if self._bits < bits:
            self._refill()
        value = self._low & ((1 << bits) - 1)
        self._low >>= bits
        self._bits -= bits
        return value

    def more(self, t: int) -> bool:
        """See Writer.more."""
        if self._bits < 4:
            self._refill()
        slot, rest = self._low & 15, self._low >> 4
        yes = slot >= 16 - t
        freq, start = (t, 16 - t) if yes else (16 - t, 0)
        self._low = freq * rest + slot - start
        self._factor *= freq
        self._bits -= 4
        return yes

    def gamma(self, order: int) -> int:
        """See Writer.gamma."""
        log = 0
        while self.more(8):
            log += 1
            if log > _MAX_LOG:
                raise CorruptFile(f"a number in a frequency table has more than {_MAX_LOG} bits")
        m = (1 << log) + self.uniform(log)
        return ((m - 1) << order) + self.uniform(order)

    def unary(self, t: int, order: int) -> int:
        """See Writer.unary."""
        steps = 0
        while steps < UNARY_LIMIT and self.more(t):
            steps += 1
        if steps == UNARY_LIMIT:
            steps += self.gamma(0)
        return (steps << order) + self.uniform(order)

    def finish(self) -> None:
        """CorruptFile where the bytes hold more than what was read."""
        if self._high or self._low:
            raise CorruptFile("a frequency table has bytes left after its last value")
