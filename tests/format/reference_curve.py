"""Forms of grids and their curves, one magnitude at a time, in Python's own float64: part of the second reader."""

from __future__ import annotations

import struct


def minifloat(number: int) -> float:
    return float(struct.unpack("<f", struct.pack("<I", number << 15))[0])


def curve(number: int, shape: list[float], k: int) -> float:
    if number == 0:
        return float(k)
    h, *slopes = shape
    if number == 1:
        power, factor = 1.0, 1.0 + h
        while k:
            power, factor, k = power * factor if k % 2 else power, factor * factor, k // 2
        return (power - 1.0) / h
    if number == 2:
        return logarithm(1.0 + h * k) / h
    begin, i = 0.0, 0
    slopes = [1.0, *slopes]
    while i < 4 and k >= begin + h / slopes[i]:
        begin, i = begin + h / slopes[i], i + 1
    return (k - begin) * slopes[i] + i * h


def logarithm(x: float) -> float:
    e = 0
    while x >= 1.5:
        x, e = x / 2.0, e + 1
    z = (x - 1.0) / (x + 1.0)
    total = 1.0 / 25
    for n in range(23, 0, -2):
        total = total * (z * z) + 1.0 / n
    return 2.0 * z * total + e * 0.6931471805599453


def read_forms(columns: object, grids: list[dict]) -> None:
    for t, e in zip(grids, columns.take(len(grids)), strict=True):
        t["edge"] = e
    for t, c in zip(grids, columns.take(len(grids)), strict=True):
        t["curve"], t["channels"] = c % 128, [0] * t["shape"][0] if c >= 128 else []
    for t in grids:
        counts = [0, 1, 1, 5]
        t["shape of curve"] = [minifloat(int.from_bytes(columns.take(2), "little")) for _ in range(counts[t["curve"]])]
    for t in grids:
        t["channels"] = [byte - 256 * (byte > 127) for byte in columns.take(len(t["channels"]))]
