from __future__ import annotations

import numpy as np
import pytest

from noworse.codec import decode_into, encode, fingerprint
from tests.codec.streams import as_coded
from tests.format import reference_file


@pytest.mark.parametrize("size", [0, 1, 7, 8, 9, 1000, (1 << 21) + 5])
def test_fingerprints_follow_their_definition_from_any_number_of_threads(size: int) -> None:
    data = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    expected = reference_file.fingerprint(data.tobytes())
    assert fingerprint(data) == fingerprint(data, 1) == fingerprint(data, 3) == expected
    for at in range(0, size, max(1, size // 50)):
        changed = data.copy()
        changed[at] ^= 1 << at % 8
        assert fingerprint(changed) != expected


def test_checksums_are_those_of_zlib() -> None:
    """Of any length, since long and short pieces are computed in different ways: a wrong one would be refused."""
    rng = np.random.default_rng(0)
    for n in [*range(60, 400, 7), 70_001, 262_143]:
        codes = rng.integers(0, 256, n).astype(np.int32)
        out = np.zeros(n, np.int32)
        decode_into(as_coded(encode(codes)), out)
        np.testing.assert_array_equal(out, codes)
