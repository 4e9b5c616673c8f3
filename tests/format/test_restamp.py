from __future__ import annotations

import pytest

from attacks.forge import forge, small_model
from noworse.errors import CorruptFile
from noworse.format import File, limits, pack, restamp, write
from noworse.format.writer import HEADER
from noworse.representation.columns import varints


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


def test_texts_that_escapes_would_make_too_long_are_kept(tmp_path):
    """A limit that the text meets as another writer wrote it, but not with every letter as six ASCII characters."""
    path = tmp_path / "a.nwt"
    text = ('{"note":"' + "名" * (limits.JSON_BYTES // 4) + '"}').encode()
    with File(pack({}, {}, None)) as file:
        path.write_bytes(forge(file, settings=varints([len(text)]) + text))
    restamp(path, {"verdict": "worse"})
    with File(path) as file:
        assert file.settings == {"note": "名" * (limits.JSON_BYTES // 4)}
        assert sum(file.attribution().values()) == file.size
