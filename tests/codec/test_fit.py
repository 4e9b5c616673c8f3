from __future__ import annotations

import math

import numpy as np
import pytest

from noworse.codec import _native, encode


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
    assert len(table) <= 4 + 0.75 * len(_native.Tables(table).table()[1])


def test_gaps_and_asymmetry_are_representable() -> None:
    codes = np.repeat(np.array([-7, 143, 144, 145, 192], np.int32), [500, 3, 4000, 70, 1])
    lo, freqs, _, golomb, _ = _native.Tables(encode(codes).table).table()
    for k in np.unique(codes):
        inside = 0 <= k - lo < len(freqs) - (golomb >= 0)
        assert freqs[k - lo] > 0 if inside else golomb >= 0


def test_wide_histograms_are_cut_to_the_limit() -> None:
    counts = np.full(20_000, 3)
    counts[9000:10_000] = 50
    lo, freqs, _, golomb, _ = _native.Tables(encode(np.repeat(np.arange(20_000, dtype=np.int32), counts)).table).table()
    assert golomb >= 0
    assert len(freqs) <= 4097
    assert lo <= 9000
    assert lo + len(freqs) > 10_000


def test_far_values_only_beside_one_symbol() -> None:
    codes = np.array([0, 0, 0, 0, 0, 10**9, -(10**9), -(10**9)], np.int32)
    _, freqs, _, golomb, _ = _native.Tables(encode(codes).table).table()
    assert golomb >= 0
    assert len(freqs) == 2


@pytest.mark.parametrize("scale", [0.3, 1.0, 4.0, 16.0])
def test_large_streams_have_tables_that_decode_fast(scale: float) -> None:
    codes = np.rint(np.random.default_rng(3).laplace(scale=scale, size=1 << 18)).astype(np.int32)
    assert _native.Tables(encode(codes).table).table()[2] == 12
