from __future__ import annotations

import numpy as np
import pytest

from noworse.representation import DTYPES
from noworse.representation.planes import join, split


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
