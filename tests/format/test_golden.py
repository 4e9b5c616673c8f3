from __future__ import annotations

import pytest

from noworse.errors import CorruptFile
from noworse.format import File
from noworse.representation import Tied
from tests.format import reference_file
from tests.format.golden_files import FILES, FOLDER, SETTINGS, SMALL, VERDICT


def golden(name):
    return (FOLDER / f"{name}.nwt").read_bytes()


def read(data):
    with File(data) as file:
        file.check()


@pytest.mark.parametrize("name", FILES)
def test_files_of_every_version_are_read(name):
    items, data = FILES[name](), golden(name)
    assert data[6] == int(name[1])
    with File(data) as file:
        assert file.names == list(items)
        assert (file.settings, file.verdict) == (SETTINGS, VERDICT)
        for tensor, item in items.items():
            assert file.representation(tensor) == item
        file.check()


@pytest.mark.parametrize("name", FILES)
def test_the_second_reader_agrees(name):
    items = FILES[name]()
    found, settings, verdict = reference_file.read(golden(name))
    assert (settings, verdict) == (SETTINGS, VERDICT)
    for tensor, item in items.items():
        source = items[item.target] if isinstance(item, Tied) else item
        assert found[tensor] == (item.dtype, item.shape, source.storage().tobytes())


@pytest.mark.parametrize("name", FILES)
def test_every_prefix_is_refused(name):
    data = golden(name)
    for length in range(len(data)):
        with pytest.raises(CorruptFile):
            read(data[:length])


@pytest.mark.slow
@pytest.mark.parametrize("name", SMALL)
def test_every_flipped_bit_is_noticed(name):
    data = golden(name)
    assert len(data) <= 4096
    for bit in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(CorruptFile):
            read(bytes(damaged))
