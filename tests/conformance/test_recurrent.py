"""Cases of the group "recurrent"."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance.page import holds
from tests.conformance.registry import of


@pytest.mark.parametrize("name", of("recurrent"))
def test_every_verb_is_right_or_refuses(name: str, tmp_path: Path) -> None:
    holds(name, tmp_path)
