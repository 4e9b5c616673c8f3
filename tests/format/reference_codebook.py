"""The values of codebooks: part of the second reader."""

from __future__ import annotations


def in_rows(planes: bytes, count: int) -> list[bytes]:
    """Values from their highest bytes, then those below, and so on."""
    return [planes[i::count][::-1] for i in range(count)]


def ascending(values: list[bytes]) -> bool:
    numbers = [int.from_bytes(value, "little") for value in values]
    half = 1 << 8 * len(values[0]) - 1
    ranks = [half - 1 - number if number >= half else number for number in numbers]
    return ranks == sorted(set(ranks))
