from __future__ import annotations

import numpy as np
import pytest

from noworse.errors import BadInput
from noworse.representation import DTYPES, find_dtype, from_float32, to_numpy
from noworse.representation.dtypes import BY_CODE

torch = pytest.importorskip("torch")


def test_codes_and_names_are_unique():
    assert len(BY_CODE) == len(DTYPES)
    assert all(BY_CODE[dtype.code] is dtype and DTYPES[dtype.name] is dtype for dtype in DTYPES.values())
    assert max(BY_CODE) < 32  # five bits in the file


def test_every_dtype_has_the_width_that_torch_gives_it():
    known = [name for name in DTYPES if hasattr(torch, name)]
    assert len(known) > 12
    for name in known:
        assert find_dtype(name).itemsize == getattr(torch, name).itemsize


@pytest.mark.parametrize("name", [name for name in DTYPES if name.startswith("float8")])
def test_float8_values_equal_those_of_torch(name):
    if not hasattr(torch, name):
        pytest.skip(f"this torch has no {name}")
    codes = np.arange(256, dtype=np.uint8)
    expected = torch.from_numpy(codes).view(getattr(torch, name)).float().numpy()
    np.testing.assert_array_equal(to_numpy(codes, name), expected)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_rounding_from_float32_equals_that_of_torch(name):
    rng = np.random.default_rng(0)
    values = np.concatenate([
        rng.integers(0, 0x7F800000, 20000, dtype=np.uint32).view(np.float32),
        np.array([0.0, 1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-11, 65519.0, 65520.0, 3.4e38, 1e-45], np.float32),
    ])  # fmt: skip
    values = np.concatenate([values, -values])
    expected = torch.from_numpy(values).to(getattr(torch, name)).float().numpy()
    np.testing.assert_array_equal(to_numpy(from_float32(values, name), name).astype(np.float32), expected)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_rounding_keeps_infinity_and_what_is_no_number(name):
    bits = np.array([0x7F800000, 0xFF800000, 0x7F800001, 0xFFFFFFFF, 0x7FC00000], np.uint32)
    inf, nan = (0x7F80, 0x7FC0) if name == "bfloat16" else (0x7C00, 0x7E00)
    expected = [inf, inf | 0x8000, nan, nan | 0x8000, nan]
    np.testing.assert_array_equal(from_float32(bits.view(np.float32), name).view(np.uint16), expected)


def test_every_float16_and_the_middles_between_them_round_as_in_numpy():
    exact = np.arange(0x7C00, dtype=np.uint16).view(np.float16).astype(np.float32)
    middles = ((exact[1:].astype(np.float64) + exact[:-1]) / 2).astype(np.float32)  # 12 bits: exact
    around = [np.nextafter(middles, np.float32(to)) for to in (0, np.inf)]
    values = np.concatenate([exact, middles, *around])
    np.testing.assert_array_equal(from_float32(values, "float16"), values.astype(np.float16))


def test_bfloat16_becomes_float32_of_the_same_value():
    stored = np.array([0x3F80, 0xC000, 0x7F80], np.uint16)
    np.testing.assert_array_equal(to_numpy(stored, "bfloat16"), np.array([1, -2, np.inf], np.float32))


def test_an_unknown_dtype_is_named():
    with pytest.raises(BadInput, match="'float128' cannot be stored; expected one of bool, uint8"):
        find_dtype("float128")
