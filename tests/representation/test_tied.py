from __future__ import annotations

import pytest

from noworse.errors import BadInput
from noworse.representation import Tied


def test_tied_has_no_data():
    with pytest.raises(BadInput, match="decode its target 'embedding'"):
        Tied("embedding", (2,), "float32").decode()
