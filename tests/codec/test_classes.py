"""Streams whose tables follow from the scales of rows and columns."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noworse.codec import decode_into, encode
from noworse.errors import BadInput, CorruptFile
from noworse.representation import Grid, pack_step
from tests.codec import reference_codec
from tests.codec.streams import FAR, as_coded, decode, decode_grid_into, laplacian, mutated


def uneven(rows: int, columns: int, scale: float = 1.0, outliers: int = 0, seed: int = 0) -> np.ndarray:
    """A matrix whose rows and columns differ in scale."""
    rng = np.random.default_rng(seed)
    spread = np.exp(0.8 * rng.normal(size=(rows, 1)) + 0.6 * rng.normal(size=(1, columns)))
    codes = np.rint(rng.laplace(scale=scale, size=(rows, columns)) * spread).astype(np.int32).reshape(-1)
    codes[rng.integers(0, codes.size, outliers)] = rng.integers(-900, 900, outliers)
    return codes


MATRICES = [(128, 128, 1.0, 0), (300, 251, 0.3, 3), (17, 9001, 2.0, 5), (4000, 96, 1.0, 0), (40, 7000, 12.0, 9)]
MATRICES += [(1400, 400, 1.0, 30)]  # two whole blocks


@pytest.mark.parametrize(("rows", "columns", "scale", "outliers"), MATRICES)
def test_classes_pay_and_round_trip(rows: int, columns: int, scale: float, outliers: int) -> None:
    codes = uneven(rows, columns, scale, outliers)
    encoded = encode(codes, columns)
    assert encoded.scales is not None
    assert [s.size for s in encoded.scales] == [rows, columns]
    assert min(s.min() for s in encoded.scales) >= 0
    assert max(s.max() for s in encoded.scales) <= 31
    side = sum(encode(s).size for s in encoded.scales)
    assert encoded.size + side < 0.97 * encode(codes).size
    for way in [(1, 3), (1, 2), (1, 1), (1, 0), (3, 3), (3, 0)]:
        again = encode(codes, columns, *way)
        assert (again.table, again.blocks) == (encoded.table, encoded.blocks)
        out, values = np.zeros(codes.size, np.int32), np.zeros(codes.size, np.float32)
        decode_into(as_coded(encoded), out, *way)
        np.testing.assert_array_equal(out, codes)
        decode_grid_into(as_coded(encoded), values, 0.125, 40, *way)
        np.testing.assert_array_equal(values, Grid(codes, pack_step(0.125), 40, codes.shape, "float32").storage())


@given(st.integers(2, 40), st.integers(2, 40), st.floats(0.05, 30), st.integers(0, 3), st.integers(0, 2**31))
@settings(max_examples=60)
def test_any_matrix_round_trips(rows: int, columns: int, scale: float, outliers: int, seed: int) -> None:
    codes = uneven(rows, columns, scale, outliers, seed)
    encoded = encode(codes, columns)
    np.testing.assert_array_equal(decode(encoded.table, encoded.blocks, codes.size, encoded.scales), codes)


@pytest.mark.parametrize(("rows", "columns", "scale", "outliers"), MATRICES[:2])
def test_plain_python_reference_agrees_on_classes(rows: int, columns: int, scale: float, outliers: int) -> None:
    codes = uneven(rows, columns, scale, outliers)
    encoded = encode(codes, columns)
    scales = tuple(s.tolist() for s in encoded.scales)
    assert reference_codec.read_stream(encoded.table, list(encoded.blocks), codes.size, scales) == codes.tolist()


@pytest.mark.parametrize("columns", [0, 1, 150, 22_500])
def test_matrices_without_structure_have_one_table(columns: int) -> None:
    codes = laplacian(22_500, 1.0)
    assert encode(codes, columns) == encode(codes)
    assert encode(np.zeros(22_500, np.int32), columns).scales is None


def test_scales_that_do_not_fit_are_refused() -> None:
    codes = uneven(128, 128)
    coded = as_coded(encode(codes, 128))
    rows, columns = coded.scales
    for scales in [
        (rows[:-1], columns),
        (rows, columns[:64]),
        (rows, columns[:0]),
        (rows + 40, columns),
        (rows, columns - 40),
    ]:
        with pytest.raises(CorruptFile, match="scale"):
            decode_into(replace(coded, scales=scales), np.zeros(codes.size, np.int32))
    with pytest.raises(BadInput, match="no matrix of 7 columns"):
        encode(codes, 7)


def test_damaged_classes_never_crash() -> None:
    codes = uneven(128, 128, outliers=3)
    encoded = encode(codes, 128)
    rng = np.random.default_rng(1)
    for i in range(1500):
        table = mutated(encoded.table, rng) if i % 2 else encoded.table
        block = mutated(encoded.blocks[0], rng) if i % 3 else encoded.blocks[0]
        rows = rng.integers(0, 32, 128).astype(np.int32) if i % 5 == 0 else encoded.scales[0]
        with suppress(CorruptFile):
            out = decode(table, [block], codes.size, (rows, encoded.scales[1]))
            assert max(-int(out.min()), int(out.max())) <= FAR
