from __future__ import annotations

import numpy as np
import pytest

from noworse.errors import BadInput
from noworse.representation import DTYPES, Raw
from noworse.representation.raw import join, split


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_raw_returns_the_same_bits(dtype):
    rng = np.random.default_rng(0)
    width = DTYPES[dtype].itemsize
    data = rng.integers(0, 2 if dtype == "bool" else 256, 12 * width, dtype=np.uint8).tobytes()
    raw = Raw(data, (3, 4), dtype)
    assert raw.storage().tobytes() == data
    assert raw.storage().shape == raw.decode().shape == (3, 4)
    assert raw.nbytes == len(data)


def test_raw_decodes_to_an_array_of_its_own():
    raw = Raw(np.arange(3, dtype=np.float32).tobytes(), (3,), "float32")
    raw.decode()[0] = 7
    np.testing.assert_array_equal(raw.decode(), [0, 1, 2])


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_planes_round_trip(dtype):
    data = np.random.default_rng(0).integers(0, 256, 40 * DTYPES[dtype].itemsize, np.uint8).tobytes()
    planes = list(split(data, dtype))
    assert [plane.size for plane in planes] == [40] * DTYPES[dtype].itemsize
    assert join(planes, dtype).tobytes() == data


@pytest.mark.parametrize(("dtype", "storage"), [("float32", np.float32), ("bfloat16", np.uint16)])
def test_the_highest_plane_is_the_exponent_alone(dtype, storage):
    values = (np.random.default_rng(0).normal(size=99) * 7).astype(np.float32)
    exponents = np.frexp(np.abs(values))[1] + 126
    stored = values if dtype == "float32" else (values.view(np.uint32) >> 16).astype(storage)
    planes = list(split(stored.tobytes(), dtype))
    np.testing.assert_array_equal(planes[-1], exponents)
    np.testing.assert_array_equal(planes[0] & 1, values < 0)


def test_integers_are_cut_into_bytes():
    planes = list(split(np.array([0x0102, 0x0304], "<u2").tobytes(), "uint16"))
    np.testing.assert_array_equal(planes, [[2, 4], [1, 3]])


@pytest.mark.parametrize(
    ("data", "dtype", "message"),
    [
        (b"123", "float32", r"3 bytes of data, expected 4 for float32 of \(1,\)"),
        (b"\2", "bool", "bytes other than 0 and 1"),
    ],
)
def test_bytes_that_are_no_elements_are_refused(data, dtype, message):
    with pytest.raises(BadInput, match=message):
        Raw(data, (1,), dtype)
