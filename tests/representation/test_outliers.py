"""A list beside a grid: exact values in their places, whatever decodes the codes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noworse.errors import BadInput
from noworse.format import File, pack
from noworse.representation import Grid, Outliers, find_dtype
from tests.format.golden_files import codes
from tests.format.reference_file import read

DTYPES = ("float16", "bfloat16", "float32", "float64")


def grid(size, dtype="float32"):
    return Grid(codes(size, 1, 2), 0x7A40, 40, (size,), dtype)


@given(st.sampled_from(DTYPES), st.integers(1, 2000), st.integers(0, 99))
def test_places_have_their_values_and_all_others_those_of_the_grid(dtype, size, seed):
    rng = np.random.default_rng(seed)
    plain, kind = grid(size, dtype), find_dtype(dtype).storage
    at = np.sort(rng.choice(size, rng.integers(1, min(size, 1024) + 1), replace=False))
    bits = rng.integers(0, 256, len(at) * kind.itemsize, np.uint8).view(kind)  # NaNs, infinities, zeros of both signs
    found, expected = Outliers.beside(plain, at, bits).storage(), plain.storage()
    expected[at] = bits
    assert found.tobytes() == expected.tobytes()


@pytest.mark.parametrize("shape", [(20000,), (200, 100)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_grids_are_decoded_by_native_code_all_the_same(shape, dtype):
    """Streams of their own are decoded straight to numbers; fingerprints are of these with the list in place."""
    whole = Grid(codes(20000, 1, 2), 0x7A40, 40, shape, dtype)
    item = Outliers.beside(whole, np.array([0, 77, 19999]), np.array([9, 8, 7]).astype(find_dtype(dtype).storage))
    data = pack({"w": item}, {}, None)
    with File(data) as file:
        assert file._streams.is_fused(0)
        assert dict(file.stored())["w"].tobytes() == file.storage("w").tobytes() == item.storage().tobytes()
        file.check()
    assert read(data)[0]["w"][2] == item.storage().tobytes()


def test_a_list_costs_its_values_and_a_byte_or_two_for_each_place():
    whole = Grid(codes(20000, 1, 2), 0x7A40, 40, (20000,), "float32")
    rng = np.random.default_rng(0)
    sizes = []
    for count in (1, 11):
        at = np.sort(rng.choice(20000, count, replace=False))
        cleared = Grid(np.where(np.isin(np.arange(20000), at), 0, whole.codes), 0x7A40, 40, (20000,), "float32")
        values = rng.normal(scale=1e4, size=count).astype(np.float32)
        sizes.append(len(pack({"w": Outliers.beside(cleared, at, values)}, {}, None)))
    assert 10 * 4 < sizes[1] - sizes[0] < 10 * 7
    assert sizes[0] - len(pack({"w": whole}, {}, None)) < 12


def test_without_any_there_is_no_list():
    assert type(Outliers.beside(grid(9), np.array([], int), np.array([], np.float32))) is Grid


@pytest.mark.parametrize(
    ("at", "values", "message"),
    [
        ([9], 1, "do not ascend below 9"),
        ([3, 3], 2, "do not ascend below 9"),
        ([3, 2], 2, "do not ascend below 9"),
        ([3, 4], 1, "2 places and 4 bytes"),
        ([], 0, "0 places and 0 bytes"),
        (list(range(1025)), 1025, "1025 places"),
    ],
)
def test_lists_that_no_file_can_hold_are_refused(at, values, message):
    plain = grid(9 if len(at) < 9 else 2000)
    places = np.array(at, "<u8").tobytes()
    with pytest.raises(BadInput, match=message):
        Outliers(plain.codes, plain.step, plain.edge, plain.shape, "float32", places=places, values=bytes(4 * values))


def test_gaps_whose_sum_overflows_are_refused():
    """2**10 gaps of nearly 2**56 elements come back to a small place modulo 2**64."""
    whole = Outliers.beside(grid(9), np.array([1, 3]), np.zeros(2, np.float32))
    assert whole.details == {"outliers": 2}
    assert str(whole) == "outliers, 2 beside a grid"
    assert whole.zeros() == int((whole.decode() == 0).sum())
