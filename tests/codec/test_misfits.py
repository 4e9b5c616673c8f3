"""Descriptions of streams that do not fit their bytes."""

from __future__ import annotations

import numpy as np
import pytest

from noworse.codec import Coded, decode_into, encode
from noworse.errors import BadInput, CorruptFile
from tests.codec.streams import decode_grid_into


def test_codes_that_are_no_matrix() -> None:
    with pytest.raises(BadInput, match="7 codes are no matrix of 2 columns"):
        encode(np.arange(7, dtype=np.int32), columns=2)


@pytest.mark.parametrize(
    ("coded", "message"),
    [
        (Coded(b"abc", 4, []), "tables of 4 bytes in a stream of 3"),
        (Coded(b"abc", -1, []), "tables of -1 bytes in a stream of 3"),
        (Coded(b"", 0, [], [5]), "checksums without blocks"),
        (Coded(b"", 0, [0], [5]), "crc32 is 00000000, expected 00000005"),
        (Coded(b"", 0, [0, 0]), "a stream of 3 symbols has 2 blocks, expected 1"),
        (Coded(b"", 0, [1]), "the data of a stream end early"),
        (Coded(b"a", 0, [0]), "bytes follow the last block"),
    ],
)
def test_lengths_that_do_not_fit(coded: Coded, message: str) -> None:
    with pytest.raises(CorruptFile, match=message):
        decode_into(coded, np.zeros(3, np.int32))
    with pytest.raises(CorruptFile, match=message):
        decode_grid_into(coded, np.zeros(3, np.float32), 0.5, 32)
