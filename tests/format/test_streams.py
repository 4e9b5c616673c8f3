from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from noworse.format.streams import BLOCK, Arena


@given(st.lists(st.integers(1, 5000), min_size=1, max_size=40), st.integers(0, 10_000))
@settings(max_examples=60)
def test_arrays_begin_on_cache_lines_and_do_not_overlap(sizes: list[int], total: int) -> None:
    arena = Arena(total)  # whatever was announced
    arrays = [arena.take(size) for size in sizes]
    for number, (array, size) in enumerate(zip(arrays, sizes, strict=True)):
        assert array.shape == (size,)
        assert array.flags.c_contiguous
        assert array.ctypes.data % 64 == 0
        array[:] = number
    for number, array in enumerate(arrays):
        np.testing.assert_array_equal(array, number)


def test_many_arrays_share_blocks_and_a_large_one_has_its_own() -> None:
    large = BLOCK // 4 + 1
    arena = Arena(1000 * 1000 + large)
    owners = {id(arena.take(1000).base) for _ in range(1000)}
    assert len(owners) == 1
    assert id(arena.take(large).base) not in owners
