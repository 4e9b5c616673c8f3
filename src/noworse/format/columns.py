"""Columns of unsigned integers as varints (LEB128: 7 bits a byte, lowest first, the high bit says more follow)."""

from __future__ import annotations

from collections.abc import Iterable

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
        value = 0
        for shift in range(0, 7 * MAX_VARINT, 7):
            byte = self.take(1, what)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise CorruptFile(f"a number of more than {MAX_VARINT} bytes in {what}")

    def varints(self, count: int, what: str) -> list[int]:
        """The next ``count`` varints; the count is checked against the bytes left before anything is allocated."""
        if count > self.left:
            raise CorruptFile(f"{what} needs {count} numbers, only {self.left} bytes are left in the index")
        return [self.varint(what) for _ in range(count)]
