from __future__ import annotations

import numpy as np
import pytest

from noworse.errors import BadInput
from noworse.format import File, pack
from noworse.representation import Constant, Grid, Groups, Raw


def vector(values, dtype):
    return Raw(np.array(values, dtype).tobytes(), (len(values),), dtype)


CODES = np.array([[0, 1, 15, 8], [3, 3, 0, 15]], np.uint8)


def test_zero_points_against_numbers_worked_out_by_hand():
    item = Groups.of(CODES, vector([0.5, -0.25], "float16"), vector([8, 3], "uint8"), "float32")
    assert item.decode().tolist() == [[-4.0, -3.5, 3.5, 0.0], [0.0, 0.0, 0.75, -3.0]]
    assert np.signbit(item.decode()[1, :2]).all()  # a negative scale of nothing


def test_minima_are_added_after_the_product_was_rounded():
    scale, low = np.float32(0.1), np.float32(-1.7)
    item = Groups.of(CODES, vector([scale], "float32"), vector([low], "float32"), "float32")
    expected = [[float(np.float32(np.float32(scale * np.float32(k)) + low)) for k in row] for row in CODES]
    assert item.decode().tolist() == expected


def test_a_file_holds_it(tmp_path):
    item = Groups.of(CODES, vector([0.5, -0.25], "float16"), Constant(b"\x08", (2,), "uint8"), "float16")
    with File(pack({"a": item}, {}, None)) as file:
        assert file.array("a").tolist() == item.decode().tolist()
        assert str(file.representation("a")) == "groups of 4, scales float16, shifts uint8"


@pytest.mark.parametrize(
    ("scales", "shifts", "message"),
    [
        (vector([1, 1, 1], "float16"), vector([0, 0, 0], "uint8"), "groups of equal size"),
        (vector([1, 1], "float16"), vector([0], "uint8"), "groups of equal size"),
        (vector([1, 1], "float64"), vector([0, 0], "uint8"), "scales are float64"),
        (vector([1, 1], "float16"), vector([0, 0], "float32"), "shifts float32"),
        (vector([1, np.inf], "float16"), vector([0, 0], "uint8"), "not finite"),
        (vector([1, 1], "float16"), vector([0, np.nan], "float16"), "not finite"),
        (Grid(np.zeros(2, np.int32), 30000, 32, (2,), "float32"), vector([0, 0], "uint8"), "groups of raw, grid, raw"),
    ],
)
def test_parts_that_do_not_fit(scales, shifts, message):
    with pytest.raises(BadInput, match=message):
        Groups.of(CODES, scales, shifts, "float32")
