"""Streams of bytes are those of the coder of integers, from which they can be read as well."""

from __future__ import annotations

import numpy as np
import pytest

from noworse.codec import BLOCK, decode, decode_octets, encode, encode_octets
from noworse.errors import CorruptFile


@pytest.mark.parametrize("size", [0, 1, 100, 4096, BLOCK - 1, 2 * BLOCK + 3])
@pytest.mark.parametrize("kind", ["constant", "two", "gauss", "noise"])
def test_bytes_come_back_and_cost_their_entropy(size, kind):
    rng = np.random.default_rng(size)
    data = {
        "constant": np.full(size, 255),
        "two": rng.choice([0, 255], size, p=[0.99, 0.01]),
        "gauss": np.clip(rng.normal(120, 3, size), 0, 255),
        "noise": rng.integers(0, 256, size),
    }[kind].astype(np.uint8)
    found = encode_octets(data)
    np.testing.assert_array_equal(decode_octets(found.table, found.blocks, size), data)
    np.testing.assert_array_equal(decode(found.table, found.blocks, size), data)
    assert found.size <= 1.01 * encode(data.astype(np.int32)).size + 256  # beside the table that was searched for


def test_other_symbols_and_wrong_numbers_of_blocks_are_damage():
    wide = encode(np.array([3, 256, 3, 3], np.int32))
    with pytest.raises(CorruptFile, match="values from 3 to 256"):
        decode_octets(wide.table, wide.blocks, 4)
    with pytest.raises(CorruptFile, match="has 1 blocks, expected 2"):
        decode_octets(wide.table, wide.blocks, BLOCK + 1)
