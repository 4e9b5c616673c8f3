"""Columns of unsigned integers as varints (LEB128: 7 bits a byte, lowest first, the high bit says more follow)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from noworse.errors import CorruptFile

MAX_VARINT = 9  # bytes, 63 bits


def varints(values: Iterable[int]) -> bytes:
    """Non-negative integers below 2**63 as varints back to back."""
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
        """The next ``count`` bytes."""
        if count > self.left:
            raise CorruptFile(f"the index ends within {what}: {self.left} bytes left, {count} expected")
        self.position += count
        return self._data[self.position - count : self.position]

    def until(self, end: bytes, what: str) -> bytes:
        """The bytes before the next ``end`` byte, which is skipped."""
        found = self._data.find(end, self.position)
        if found < 0:
            raise CorruptFile(f"the index ends within {what}")
        start, self.position = self.position, found + 1
        return self._data[start:found]

    def varint(self, what: str) -> int:
        """The next varint."""
        return self.varints(1, what)[0]

    def varints(self, count: int, what: str) -> list[int]:
        """The next ``count`` varints; the count is checked against the bytes left before anything is allocated."""
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
