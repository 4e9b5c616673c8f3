from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from noworse.codec import BLOCK, Coded, CodedGrid, Decoding, encode, fingerprint
from noworse.errors import CorruptFile
from tests.codec.streams import as_coded, decode, decode_grid_into, decode_grids, laplacian

CONTENTS = [
    laplacian(3 * BLOCK + 5, 2.0),
    np.full(2 * BLOCK + 1, -7, np.int32),
    laplacian(900, 0.4, 1),
    np.zeros(0, np.int32),
    laplacian(BLOCK, 300.0, 2),
]


def grids() -> list[CodedGrid]:
    return [
        CodedGrid(as_coded(encode(codes)), np.full(codes.size, np.nan, np.float32), 2.0**-k, 40 + k)
        for k, codes in enumerate(CONTENTS)
    ]


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("simd", [0, 1, 2, 3])
def test_together_they_are_what_they_are_alone(threads: int, simd: int) -> None:
    together = grids()
    found = decode_grids(together, threads, simd, digest=True)
    for grid, one, result in zip(together, grids(), found, strict=True):
        assert result == decode_grid_into(grid.coded, one.out, one.step, one.edge, 1, 0, digest=True)
        assert result == fingerprint(grid.out.view(np.uint8))
        np.testing.assert_array_equal(grid.out, one.out)
    assert decode_grids(together) == [0] * len(together)
    assert decode_grids([]) == []


def test_each_says_what_is_wrong_with_it_and_the_others_are_decoded() -> None:
    found = grids()
    data = bytearray(found[0].coded.data)
    data[-1] ^= 1
    data[-found[0].coded.blocks[-1] - 1] ^= 1
    found[0] = replace(found[0], coded=replace(found[0].coded, data=bytes(data)))
    found[2] = replace(found[2], coded=Coded(b"", 1, []))
    found[4] = replace(found[4], out=np.zeros(3, np.float32))
    results = decode_grids(found, 2, digest=True)
    messages = [str(result) for result in results if isinstance(result, CorruptFile)]
    assert [isinstance(result, CorruptFile) for result in results] == [True, False, True, False, True]
    assert messages[0].startswith("block 2 of 4 is damaged: its crc32"), messages  # the first of two damaged ones
    assert messages[1] == "tables of 1 bytes in a stream of 0"
    assert messages[2].startswith("block 0 of 1 is damaged")
    assert (found[1].out == decode_all(CONTENTS[1], 0.5, 41)).all()


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_may_be_asked_for_twice_or_never(threads: int) -> None:
    for _ in range(20):
        Decoding(grids(), threads)  # its helpers end before its memory does
    decoding = Decoding(grids(), threads, digest=True)
    assert decoding.results() == decoding.results() == decode_grids(grids(), digest=True)


def decode_all(codes: np.ndarray, step: float, edge: int) -> np.ndarray:
    return np.where(codes == 0, 0, np.sign(codes) * (np.abs(codes) + edge / 64 - 0.5) * step).astype(np.float32)


@pytest.mark.parametrize("size", [1 << 15, 1 << 17, BLOCK + 77])  # one lane, 16 lanes, 32 lanes
@pytest.mark.parametrize("symbols", range(2, 14))
def test_tables_of_few_symbols_are_the_same_everywhere(symbols: int, size: int) -> None:
    rng = np.random.default_rng(symbols)
    values = np.sort(rng.choice(np.arange(-9, 10), symbols, replace=False)).astype(np.int32)  # gaps: frequencies of 0
    for shares in (rng.dirichlet(np.full(symbols, 0.3)), np.full(symbols, 1 / symbols)):
        codes = rng.choice(values, size, p=shares)
        codes[rng.integers(0, size, 9)] = 500  # for an escape symbol
        encoded = encode(codes)
        for simd in (0, 1, 2, 3):
            np.testing.assert_array_equal(decode(encoded.table, encoded.blocks, size, simd=simd), codes)
