from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noworse.errors import CorruptFile
from noworse.representation.columns import Cursor, varints


@given(st.lists(st.integers(0, 2**63 - 1)))
def test_varints_round_trip(values):
    cursor = Cursor(varints(values))
    assert cursor.varints(len(values), "numbers") == values
    assert cursor.left == 0


def test_varints_are_leb128():
    assert varints([0, 127, 128, 300, 16384]) == bytes([0, 127, 0x80, 1, 0xAC, 2, 0x80, 0x80, 1])


def test_reading_past_the_end_is_refused():
    with pytest.raises(CorruptFile, match="ends within edges: 2 bytes left, 3 expected"):
        Cursor(b"ab").take(3, "edges")
    with pytest.raises(CorruptFile, match="ends within numbers"):
        Cursor(b"\x80").varint("numbers")
    with pytest.raises(CorruptFile, match="ends within names"):
        Cursor(b"abc").until(b"\0", "names")


def test_numbers_of_more_than_63_bits_are_refused():
    with pytest.raises(CorruptFile, match="more than 9 bytes in shapes"):
        Cursor(b"\xff" * 9 + b"\1").varint("shapes")


def test_a_count_is_checked_before_anything_is_read():
    with pytest.raises(CorruptFile, match=f"streams needs {2**60} numbers, only 3 bytes"):
        Cursor(b"abc").varints(2**60, "streams")


def test_many_numbers_are_read_like_single_ones():
    rng = np.random.default_rng(0)
    values = (rng.integers(0, 2**63, 5000) >> rng.integers(0, 63, 5000)).tolist()
    cursor = Cursor(varints([*values, 5]))
    assert cursor.varints(5000, "numbers") == values
    assert cursor.varint("numbers") == 5
    assert cursor.varints(0, "numbers") == []


def test_missing_and_long_numbers_are_told_apart():
    with pytest.raises(CorruptFile, match="ends within numbers: 2 of 4 numbers are missing"):
        Cursor(varints([300, 300]) + b"\x80").varints(4, "numbers")
    with pytest.raises(CorruptFile, match="more than 9 bytes in numbers"):
        Cursor(b"\1" + b"\x80" * 9).varints(2, "numbers")
    with pytest.raises(CorruptFile, match="more than 9 bytes in numbers"):
        Cursor(b"\1" + b"\x80" * 9 + b"\1\1").varints(3, "numbers")
