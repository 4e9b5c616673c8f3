from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from noworse.errors import BadInput
from noworse.format import File
from noworse.jobs.output import Output
from noworse.representation import Raw
from noworse.run.processes import ALONE

ITEMS = {"w": Raw(np.arange(6, dtype=np.float32).view(np.uint8).data, (6,), "float32")}


def test_a_file_gets_its_name_when_it_is_published(tmp_path: Path) -> None:
    path = tmp_path / "x.nwt"
    path.write_bytes(b"older")
    with Output(path, ALONE) as output:
        output.write(ITEMS, {"seed": 1}, "fast")
        assert path.read_bytes() == b"older"
        content = output.content()
        output.publish()
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
    with File(path) as file:
        assert (file.settings, list(file.names)) == ({"seed": 1}, ["w"])


def test_what_was_not_published_is_removed(tmp_path: Path) -> None:
    with Output(tmp_path / "x.nwt", ALONE) as output:
        output.write(ITEMS, {}, "fast")
        assert output.partial.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "missing/x.nwt"])
def test_places_where_no_file_can_be(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="expected a file name in an existing, writable folder"):
        Output(tmp_path / name, ALONE)
