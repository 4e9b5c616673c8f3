from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from noworse.errors import BadInput
from noworse.tune.typed import typed


@pytest.mark.parametrize(
    ("value", "default", "expected"),
    [
        (3, 1.0, 3.0),
        (np.float32(0.5), 1.0, 0.5),
        (np.int16(4), 1, 4),
        ("a", (), ("a",)),
        (["a", "b"], (), ("a", "b")),
        ({"a": 1}, {}, {"a": 1}),
        (False, True, False),
    ],
)
def test_what_stands_for_a_type(value: Any, default: Any, expected: Any) -> None:
    found = typed("x", value, default)
    assert found == expected
    assert type(found) is type(default)


@pytest.mark.parametrize(
    ("value", "default"), [(True, 1), (1, True), (1.0, 1), ("1", 1), (True, 1.0), (None, ""), (3, ()), ([], {})]
)
def test_what_does_not(value: Any, default: Any) -> None:
    with pytest.raises(BadInput, match=f"x must be of type {type(default).__name__}, found"):
        typed("x", value, default)
