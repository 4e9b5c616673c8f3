from __future__ import annotations

import pytest

from attacks.forge import small_model
from noworse.errors import CorruptFile
from noworse.format import File, pack, restamp, write
from noworse.format.writer import HEADER


def test_a_new_verdict_leaves_the_data_as_they_are(tmp_path):
    path = tmp_path / "a.nwt"
    write(path, small_model(), {"seed": 4})
    before = path.read_bytes()
    size = restamp(path, {"verdict": "worse", "samples": 100})
    after = path.read_bytes()
    with File(after) as file:
        end = len(HEADER) + sum(stream.nbytes for stream in file.index.streams)
        assert (file.verdict, file.settings) == ({"verdict": "worse", "samples": 100}, {"seed": 4})
        file.check()
    assert after[:end] == before[:end]
    assert size == len(after)
    assert after == pack(small_model(), {"seed": 4}, {"verdict": "worse", "samples": 100})
    restamp(path, None)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.nwt"]


def test_a_damaged_file_is_not_restamped(tmp_path):
    path = tmp_path / "a.nwt"
    path.write_bytes(pack(small_model(), {}, None)[:-1])
    before = path.read_bytes()
    with pytest.raises(CorruptFile):
        restamp(path, {})
    assert path.read_bytes() == before
