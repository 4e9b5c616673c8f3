"""Files whose codes are context-coded."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from attacks.forge import forge
from attacks.streams import classes_in_context
from noworse.errors import BadInput, CorruptFile
from noworse.format import CODERS, File, limits, pack, packed_size, write, writer
from noworse.format.index import tail
from noworse.representation import Grid, Raw, Tied
from noworse.representation.columns import varints
from tests.format.golden_files import FOLDER
from tests.format.test_overhead import resnet20


@pytest.fixture(scope="module")
def data():
    return (FOLDER / "v1.max.nwt").read_bytes()


def read(data):
    with File(data) as file:
        file.check()


def grid(codes, shape):
    return Grid(np.asarray(codes, np.int32).reshape(-1), 30000, 40, shape, "float32")


def laplacian(shape, seed=0):
    return grid(np.random.default_rng(seed).laplace(size=shape).astype(np.int32), shape)


def test_all_grids_share_one_stream_without_a_table(data):
    with File(data) as file:
        assert [(s.table, s.in_context, len(s.blocks)) for s in file.index.streams] == [(None, True, 1)]
        assert file.attribution()["tables"] == 0
        assert sum(map(file.tensor_bytes, file.names)) == file.index.streams[0].nbytes


def test_damage_with_repaired_checksums_is_refused(data):
    rng = np.random.default_rng(0)
    with File(data) as file:
        start, length = 8, file.index.streams[0].nbytes
        behind = b"".join(part for _, part in tail(file.index))
    at = behind.index(zlib.crc32(data[start : start + length]).to_bytes(4, "little"))
    for _ in range(300):
        block = bytearray(data[start : start + length])
        for place in rng.integers(0, length, rng.integers(1, 4)):
            block[place] ^= rng.integers(1, 256)
        if block == data[start : start + length]:
            continue
        checksum = zlib.crc32(block).to_bytes(4, "little")
        with File(data) as file:
            sealed = forge(file, behind=behind[:at] + checksum + behind[at + 4 :])
        with pytest.raises(CorruptFile, match=r"context-coded stream is damaged|digest"):
            read(sealed[:start] + bytes(block) + sealed[start + length :])


def test_few_bytes_do_not_stand_for_many_codes():
    codes = laplacian((100, 100))
    with File(pack({"a": codes}, {}, None, "max")) as file:
        nbytes = file.index.streams[0].nbytes
        most = limits.FREE_SYMBOLS + limits.SYMBOLS_PER_BYTE * nbytes
        shape = varints([1]) + bytes([2 << 5 | 10, 2])
        with pytest.raises(CorruptFile, match=f"stand for {most + 1} codes, expected at most {most}"):
            File(forge(file, shapes=shape + varints([most + 1, 1, 0]), lengths=varints([0, nbytes, 0, 0])))


def test_what_tables_serve_better_has_a_table():
    sparse = 1000 * np.random.default_rng(0).integers(-1, 2, 5000)
    for item in (grid(np.zeros(1 << 19), (1 << 19,)), grid(np.full(3, 77), (3,)), grid(sparse, (5000,))):
        fast, data = pack({"a": item}, {}, None), pack({"a": item}, {}, None, "max")
        assert len(data) <= len(fast)
        with File(data) as file:
            assert file.representation("a") == item
            assert item.size < 5000 or not file.index.streams[0].in_context


def test_large_grids_have_streams_of_their_own(monkeypatch):
    monkeypatch.setattr(writer, "LARGE_CODES", 5000)
    items = {
        "small": laplacian((20, 30)),
        "large": laplacian((80, 90)),
        "tiny": laplacian((9,)),
        "big": laplacian((5000,)),
    }
    with File(pack(items, {}, None, "max")) as file:
        assert {name: file.representation(name) for name in items} == items
        assert [len(use.tensors) for use in file._streams.uses] == [1, 1, 2]
        file.check()


def test_large_grids_are_context_coded_where_that_pays(monkeypatch):
    monkeypatch.setattr(writer, "LARGE_CODES", 5000)
    rng = np.random.default_rng(0)
    smooth = rng.normal(size=(64, 32, 1, 1)) + 0.5 * rng.normal(size=(64, 32, 3, 3))
    uneven = rng.laplace(size=(80, 90)) * np.exp(rng.normal(size=(80, 1)))
    items = {"smooth": grid(np.rint(2 * smooth), smooth.shape), "uneven": grid(np.rint(uneven), uneven.shape)}
    # one stream in context, or those of classes: scales of rows, of columns, codes
    for worth, expected in ((-1.0, "cc"), (writer.WORTH, "cttt"), (1.0, "tttt")):
        monkeypatch.setattr(writer, "WORTH", worth)
        with File(pack(items, {}, None, "max")) as file:
            assert "".join("tc"[stream.in_context] for stream in file.index.streams) == expected
            assert {name: file.representation(name) for name in items} == items


def test_several_blocks():
    items = {"a": laplacian((600, 500)), "b": laplacian((500, 1000), 1)}
    with File(pack(items, {}, None, "max")) as file:
        assert [len(stream.blocks) for stream in file.index.streams] == [4]
        assert {name: file.representation(name) for name in reversed(items)} == items


def test_smaller_than_tables():
    assert packed_size(resnet20(), {}, None, "max") < packed_size(resnet20(), {}, None)  # noise, tables apart
    rng = np.random.default_rng(0)
    scales = np.exp(rng.normal(size=(9, 60, 1)))
    items = {str(i): grid(rng.laplace(size=(60, 90)) * scale, (60, 90)) for i, scale in enumerate(scales)}
    assert packed_size(items, {}, None, "max") < 0.9 * packed_size(items, {}, None)


@pytest.mark.parametrize(("codes", "meant"), [(5397, "max"), (5400, "fast"), (9000, "fast")])
def test_small_models_are_context_coded_unless_told_otherwise(monkeypatch, codes, meant):
    """All grids count together, and nothing else does."""
    monkeypatch.setattr(writer, "AUTO_CODES", 5400)
    rng = np.random.default_rng(0)
    items = {
        "a": grid(rng.laplace(size=(60, 50)) * np.exp(rng.normal(size=(60, 1))), (60, 50)),
        "b": grid(np.repeat([0, 9, 1], (codes - 3000) // 3), (codes - 3000,)),
        "raw": Raw(bytes(9000), (9000,), "uint8"),
        "tied": Tied("a", (60, 50), "float32"),
    }
    made = {coder: pack(items, {}, None, coder) for coder in CODERS}
    assert made["auto"] == made[meant]
    assert made["fast"] != made["max"]
    assert packed_size(items, {}, None, "auto") == len(made["auto"])


def test_unknown_coders_are_refused(tmp_path):
    with pytest.raises(BadInput, match="coder 'best', expected one of auto, fast, max"):
        write(tmp_path / "a.nwt", {}, {}, coder="best")


def test_matrices_with_classes_are_not_context_coded():
    with pytest.raises(CorruptFile, match="a stream with classes has no table"):
        File(classes_in_context())
