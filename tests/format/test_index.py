from __future__ import annotations

import os

from hypothesis import given
from hypothesis import strategies as st

from noworse.format.index import _common


@given(st.binary(max_size=40), st.binary(max_size=9), st.binary(max_size=9))
def test_what_two_names_begin_with_alike(start, a, b):
    a, b = start + a, start + b
    assert _common(a, b) == len(os.path.commonprefix([a, b]))
