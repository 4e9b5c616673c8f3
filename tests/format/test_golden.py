from __future__ import annotations

import pytest

from noworse.format import File
from noworse.representation import Tied
from tests.format import reference_file
from tests.format.golden_files import FOLDER, SETTINGS, VERDICT, VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_files_of_every_version_are_read(version):
    items = VERSIONS[version]()
    data = (FOLDER / f"v{version}.nwt").read_bytes()
    assert data[6] == version
    with File(data) as file:
        assert file.names == list(items)
        assert (file.settings, file.verdict) == (SETTINGS, VERDICT)
        for name, item in items.items():
            assert file.representation(name) == item
        file.check()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_second_reader_agrees(version):
    items = VERSIONS[version]()
    found, settings, verdict = reference_file.read((FOLDER / f"v{version}.nwt").read_bytes())
    assert (settings, verdict) == (SETTINGS, VERDICT)
    for name, item in items.items():
        source = items[item.target] if isinstance(item, Tied) else item
        assert found[name] == (item.dtype, item.shape, source.storage().tobytes())
