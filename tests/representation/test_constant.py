from __future__ import annotations

import numpy as np
import pytest

from noworse.errors import BadInput
from noworse.representation import Constant


def test_constant_repeats_its_value():
    constant = Constant(np.float32(1.5).tobytes(), (2, 3), "float32")
    np.testing.assert_array_equal(constant.decode(), np.full((2, 3), 1.5, np.float32))
    assert Constant(b"\x80\x3f", (), "bfloat16").decode() == np.float32(1)
    assert Constant(b"\1", (2,), "bool").decode().dtype == np.bool_
    assert Constant(bytes(8), (0, 2), "int64").decode().shape == (0, 2)


def test_shapes_become_tuples_of_ints():
    assert Constant(bytes(4), [np.int64(2), 3], "float32").shape == (2, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(b"\2", (1,), "bool"), "a bool constant of value 2"),
        (lambda: Constant(b"\2", (1,), "int16"), "a constant of 1 bytes, expected the 2 of one int16"),
        (lambda: Constant(b"\2", (1,), "quint8"), "dtype 'quint8' cannot be stored"),
        (lambda: Constant(b"\2", (1,) * 9, "uint8"), "a shape of 9 dimensions, expected at most 8"),
        (lambda: Constant(b"\2", (-1,), "uint8"), "negative extent"),
        (lambda: Constant(b"\2", (2**40, 2**40), "uint8"), "more than 2\\*\\*56 elements"),
        (lambda: Constant(b"\2", (0, 2**40, 2**40), "uint8"), "more than 2\\*\\*56 elements"),
    ],
)
def test_unusable_input_is_refused(make, message):
    with pytest.raises(BadInput, match=message):
        make()
