"""Numbers of a file: unsigned integers as varints (LEB128), positive ones as the upper half of a float32.

A varint has 7 bits a byte, lowest first; the high bit says that more follow. A positive number is the upper 16 of the
31 bits of a float32 behind its sign (8 exponent, 8 mantissa). Consecutive ones are about 1/256 of an octave apart, so
that sums of their bits are products of their values, nearly.
"""

import math
from collections.abc import Iterable

import numpy as np

from noworse.errors import BadInput, CorruptFile

MAX_STEP = (0xFF << 8) - 1  # the largest finite minifloat
MAX_VARINT = 9  # bytes, 63 bits


def unpack_step(step: int) -> float:
    """Return the step size that a minifloat of 16 bits stands for."""
    return float(np.uint32(step << 15).view(np.float32))


def pack_step(step: float) -> int:
    """Return the minifloat nearest to a positive, finite step size (the smallest one for less); BadInput otherwise."""
    if not (math.isfinite(step) and step > 0 and step <= unpack_step(MAX_STEP)):
        raise BadInput(f"a step size of {step}, expected a positive number up to {unpack_step(MAX_STEP):.4g}")
    below = int(np.float32(step).view(np.uint32)) >> 15
    candidates = range(max(below - 1, 1), min(below + 1, MAX_STEP) + 1)
    return min(candidates, key=lambda bits: abs(unpack_step(bits) - step))


def varints(values: Iterable[int]) -> bytes:
    """Return non-negative integers below 2**63 as varints back to back."""
    out = bytearray()
    for value in values:
        while value > 0x7F:
            out.append(value & 0x7F | 0x80)
            value >>= 7
        out.append(value)
    return bytes(out)


class Cursor:
    """Reads bytes front to back; CorruptFile where they end too soon."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return len(self._data) - self.position

    def take(self, count: int, what: str) -> bytes:
        """Return the next ``count`` bytes."""
        if count > self.left:
            raise CorruptFile(f"the index ends within {what}: {self.left} bytes left, {count} expected")
        self.position += count
        return self._data[self.position - count : self.position]

    def until(self, end: bytes, what: str) -> bytes:
        """Return the bytes before the next ``end`` byte, which is skipped."""
        found = self._data.find(end, self.position)
        if found < 0:
            raise CorruptFile(f"the index ends within {what}")
        start, self.position = self.position, found + 1
        return self._data[start:found]

    def varint(self, what: str) -> int:
        """Return the next varint."""
        return self.varints(1, what)[0]

    def varints(self, count: int, what: str) -> list[int]:
        """Return the next ``count`` varints, no more than bytes are left, which is checked before any allocation."""
        if count > self.left:
            raise CorruptFile(f"{what} needs {count} numbers, only {self.left} bytes are left in the index")
        short = self._data[self.position : self.position + count]
        if short.isascii():  # one byte each, as nearly always
            self.position += count
            return list(short)
        data = np.frombuffer(self._data, np.uint8, min(self.left, MAX_VARINT * count), self.position)
        ends = np.flatnonzero(data < 0x80)[:count] + 1
        lengths = np.diff(ends, prepend=0)
        rest = data.size - int(ends[-1]) if ends.size else data.size
        if int(lengths.max(initial=0)) > MAX_VARINT or (ends.size < count and rest >= MAX_VARINT):
            raise CorruptFile(f"a number of more than {MAX_VARINT} bytes in {what}")
        if ends.size < count:
            raise CorruptFile(f"the index ends within {what}: {count - ends.size} of {count} numbers are missing")
        values = np.zeros(count, np.int64)
        for place in range(int(lengths.max(initial=0))):
            longer = lengths > place
            values[longer] |= (data[(ends - lengths)[longer] + place].astype(np.int64) & 0x7F) << 7 * place
        self.position += int(lengths.sum())
        return values.tolist()
