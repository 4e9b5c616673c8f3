from __future__ import annotations

import math

import numpy as np
import pytest

from noworse.codec import encode
from noworse.codec.fit import Histogram, fit
from noworse.codec.tables import MAX_SYMBOLS, parse

NONE = np.zeros(0, np.int64)


def histogram(codes: np.ndarray) -> Histogram:
    return Histogram(int(codes.min()), np.bincount(codes - codes.min()).astype(np.uint64), NONE, NONE)


def explicit_bytes(codes: np.ndarray) -> float:
    """Size with exact 12-bit frequencies, each stored in twelve bits, at the entropy of these frequencies."""
    counts = np.bincount(codes - codes.min())
    f = np.where(counts > 0, np.maximum(1, np.rint(counts / len(codes) * 4096)), 0)
    f /= f.sum()
    used = counts > 0
    return float(-(counts[used] * np.log2(f[used])).sum() + 12 * len(counts)) / 8


@pytest.mark.parametrize("n", [64, 512, 4096, 36_864])
@pytest.mark.parametrize("scale", [0.5, 1.0, 4.0])
def test_fitted_tables_beat_explicit_ones(n: int, scale: float) -> None:
    codes = np.rint(np.random.default_rng(1).laplace(scale=scale, size=n)).astype(np.int32)
    assert encode(codes).size < explicit_bytes(codes)


@pytest.mark.parametrize("bits", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("n", [4096, 36_864, 1 << 18])
def test_tables_are_compact(bits: float, n: int) -> None:
    scale = 2**bits / (2 * math.e)  # entropy of a Laplacian: log2(2 e scale)
    codes = np.rint(np.random.default_rng(2).laplace(scale=scale, size=n)).astype(np.int32)
    table = encode(codes).table
    assert len(table) <= 4 + 0.75 * len(parse(table).freqs)


def test_gaps_and_asymmetry_are_representable() -> None:
    counts = np.zeros(200, np.uint64)
    counts[[0, 150, 151, 152, 199]] = [500, 3, 4000, 70, 1]
    table = fit(Histogram(-7, counts, NONE, NONE)).table()
    used = table.freqs > 0
    for k in np.flatnonzero(counts):
        inside = 0 <= k - 7 - table.lo < len(table.freqs) - (table.golomb >= 0)
        assert used[k - 7 - table.lo] if inside else table.golomb >= 0


def test_wide_histograms_are_cut_to_the_limit() -> None:
    counts = np.full(20_000, 3, np.uint64)
    counts[9000:10_000] = 50
    table = fit(Histogram(0, counts, NONE, NONE)).table()
    assert table.golomb >= 0
    assert len(table.freqs) <= MAX_SYMBOLS
    assert table.lo <= 9000
    assert table.lo + len(table.freqs) > 10_000


def test_huge_counts_stay_within_the_levels() -> None:
    counts = np.array([1, 10**10, 3 * 10**9, 5], np.uint64)
    table = fit(Histogram(-1, counts, NONE, NONE)).table()
    assert int(table.freqs.sum()) == 1 << table.bits


def test_far_values_only_beside_one_symbol() -> None:
    far = np.array([10**9, -(10**9)], np.int64)
    table = fit(Histogram(0, np.array([5], np.uint64), far, np.array([1, 2]))).table()
    assert table.golomb >= 0
    assert len(table.freqs) == 2
