from __future__ import annotations

from itertools import takewhile

from hypothesis import given
from hypothesis import strategies as st

from noworse.format.index import _common


@given(st.binary(max_size=40), st.binary(max_size=9), st.binary(max_size=9))
def test_what_two_names_begin_with_alike(start, a, b):
    a, b = start + a, start + b
    assert _common(a, b) == len(list(takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))))
