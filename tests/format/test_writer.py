from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from attacks.forge import forge, small_model
from noworse.errors import BadInput, CorruptFile
from noworse.format import CODERS, File, Lazy, limits, pack, packed_size, restamp, write
from noworse.format.index import HEADER
from noworse.format.writer import estimated_size
from noworse.representation import Constant, Grid, Raw, Tied
from noworse.representation.columns import pack_step, varints
from tests.format.nwt_files import models

ONE = Constant(bytes(4), (), "float32")


@pytest.mark.parametrize("coder", CODERS)
@settings(max_examples=20, suppress_health_check=[HealthCheck.too_slow])
@given(items=models())
def test_any_model_round_trips(coder, items):
    data = pack(items, {"seed": 0}, {"verdict": "no worse"}, coder)
    assert data == pack(items, {"seed": 0}, {"verdict": "no worse"}, coder)
    assert len(data) == packed_size(items, {"seed": 0}, {"verdict": "no worse"}, coder)
    with File(data) as file:
        assert file.names == list(items)
        assert {name: file.representation(name) for name in items} == items
        for name, item in items.items():
            expected = item.target if isinstance(item, Tied) else item.storage()
            np.testing.assert_array_equal(file.storage(name), expected, strict=not isinstance(item, Tied))
        assert (file.settings, file.verdict, file.size) == ({"seed": 0}, {"verdict": "no worse"}, len(data))
        file.check()
        total = file.attribution()
        assert sum(total.values()) == len(data)
        assert min(total.values()) >= 0
        assert sum(file.tensor_bytes(name) for name in items) == sum(
            total.get(what, 0) for what in ("payload", "tables", "classes")
        )


def test_a_file_on_disk_holds_the_same_bytes(tmp_path):
    size = write(tmp_path / "a.nwt", small_model(), {})
    data = (tmp_path / "a.nwt").read_bytes()
    assert len(data) == size
    assert data == pack(small_model(), {}, None)
    assert [p.name for p in tmp_path.iterdir()] == ["a.nwt"]


def test_an_empty_model_is_a_file():
    with File(pack({}, {}, None)) as file:
        assert (file.names, file.settings, file.verdict) == ([], {}, None)
        assert sum(file.attribution().values()) == file.size
        file.check()


def test_several_blocks(tmp_path):
    rng = np.random.default_rng(0)
    count = 18 * (1 << 18) - 5
    items = {
        "codes": Grid(rng.laplace(size=count).astype(np.int32), 30000, 40, (count,), "float32"),
        "noise": Raw(rng.normal(size=count).astype(np.float32).tobytes(), (count,), "float32"),
        "bytes": Raw(rng.integers(0, 5, count, np.uint8).tobytes(), (count,), "uint8"),
    }
    with File(pack(items, {}, None)) as file:
        assert {name: file.representation(name) for name in items} == items
        assert [len(stream.blocks) for stream in file.index.streams] == [18] + [1] * 18 * (4 + 1)
        coded = [stream.table is not None for stream in file.index.streams]
        # mantissas of noise are kept as they are
        assert coded == [True] + [False] * 18 * 3 + [True] * 18 * 2
        assert file.tensor_bytes("bytes") < count * math.log2(5) / 8 * 1.01
        assert file.tensor_bytes("noise") < count * 4 * 0.87


def test_tied_tensors_cost_next_to_nothing():
    rng = np.random.default_rng(0)
    weight = Grid(rng.laplace(size=20000).astype(np.int32), 30000, 40, (20000,), "float32")
    alone = packed_size({"a": weight}, {}, None)
    assert packed_size({"a": weight, "b": Tied("a", (20000,), "float32")}, {}, None) < alone + 16


def test_the_digest_does_not_depend_on_how_a_tensor_is_written():
    constant = Constant(np.float32(0.5).tobytes(), (6,), "float32")
    raw = Raw(np.full(6, 0.5, np.float32).tobytes(), (6,), "float32")
    grid = Grid(np.ones(6, np.int32), 0x7E00, 32, (6,), "float32")  # step 0.5, half width 1/2
    digests = {File(pack({"a": item}, {}, None)).digest for item in (constant, raw, grid)}
    assert len(digests) == 1
    others = [pack({"b": raw}, {}, None), pack({"a": Raw(raw.data, (2, 3), "float32")}, {}, None)]
    assert not digests & {File(data).digest for data in others}


class Broken(Constant):
    """Fails when the file is half written."""

    def storage(self):
        raise RuntimeError("no data")


@pytest.mark.parametrize("existing", [None, b"before"])
def test_a_failure_leaves_no_trace(tmp_path, existing):
    path = tmp_path / "a.nwt"
    if existing:
        path.write_bytes(existing)
    with pytest.raises(RuntimeError, match="no data"):
        write(path, {**small_model(), "broken": Broken(bytes(4), (), "float32")}, {})
    assert [p.read_bytes() for p in tmp_path.iterdir()] == ([existing] if existing else [])


@pytest.mark.parametrize("name", ["missing/a.nwt", "", "a\0b"])
def test_an_unwritable_path_is_refused(tmp_path, name):
    with pytest.raises(BadInput, match="cannot write"):
        write(tmp_path / name, {}, {})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("items", "extra", "message"),
    [
        ({"a": np.zeros(3)}, {}, "tensor 'a' is a ndarray, expected a representation"),
        ({"a" * 4097: ONE}, {}, "a name of 4097 bytes, expected at most 4096"),
        ({"a\0": ONE}, {}, "no zero byte"),
        ({"\ud800": ONE}, {}, "cannot be written as UTF-8"),
        ({3: ONE}, {}, "name 3 cannot be written"),
        ({"a": Tied("b", (), "float32")}, {}, "'a' is tied to 'b', which is missing"),
        ({"a": Tied("a", (), "float32")}, {}, "itself tied to 'a'"),
        ({"a": ONE, "b": Tied("a", (1,), "float32")}, {}, r"'b' of float32 \(1,\) is tied to 'a' of float32 \(\)"),
        ({"a": ONE, "b": Tied("a", (), "int32")}, {}, "of int32"),
        ({}, {"bound": math.nan}, "settings cannot be written as JSON"),
        ({}, {"bound": object()}, "settings cannot be written as JSON"),
        ({}, {"text": "x" * (1 << 20)}, "the settings take 1048587 bytes, expected at most 1048576"),
        ({}, {"number": 10**40}, "an integer of 41 characters"),
    ],
)
def test_unusable_input_is_refused(items, extra, message):
    with pytest.raises(BadInput, match=message):
        pack(items, extra, None)


@pytest.mark.parametrize(("limit", "message"), [("INDEX_BYTES", "an index of"), ("NAMES_BYTES", "names of 7 bytes")])
def test_an_index_that_no_reader_accepts_is_not_written(monkeypatch, limit, message):
    monkeypatch.setattr(limits, limit, 6)
    with pytest.raises(BadInput, match=message):
        pack({"abc": ONE, "abcd": ONE}, {}, None)


def test_more_tensors_than_a_reader_accepts_are_not_written(monkeypatch):
    monkeypatch.setattr(limits, "TENSORS", 1)
    with pytest.raises(BadInput, match="2 tensors, expected at most 1"):
        pack({"a": ONE, "b": ONE}, {}, None)


def test_classes_of_rows_and_columns_are_attributed():
    rng = np.random.default_rng(0)
    spread = np.exp(rng.normal(size=(128, 1, 1)) + rng.normal(size=(1, 50, 4)))
    codes = np.rint(rng.laplace(size=(128, 50, 4)) * spread).astype(np.int32).reshape(-1)
    items = {name: Grid(codes, 30000, 40, (128, 50, 4), name) for name in ("float32", "bfloat16", "float64")}
    data = pack(items, {}, None)
    with File(data) as file:
        where = file.attribution()
        assert where["classes"] > 300
        assert sum(where.values()) == len(data)
        assert sum(file.tensor_bytes(name) for name in items) == where["payload"] + where["tables"] + where["classes"]
        for name, item in items.items():
            np.testing.assert_array_equal(file.storage(name), item.storage(), strict=True)
            assert file.representation(name) == item
    flat = {name: Grid(codes, 30000, 40, codes.shape, name) for name in items}
    assert len(data) < 0.95 * len(pack(flat, {}, None))


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


def test_values_are_made_when_asked_for() -> None:
    made: list[str] = []

    def make(name: str) -> str:
        made.append(name)
        return 2 * name

    lazy = Lazy({name: lambda name=name: make(name) for name in "ba"})
    assert list(lazy) == ["b", "a"]
    assert len(lazy) == 2
    assert "a" in lazy
    made.clear()
    assert lazy["a"] == "aa"
    assert made == ["a"]
    assert dict(lazy.items()) == {"b": "bb", "a": "aa"}
    assert made == ["a", "b", "a"]


def test_an_estimated_size_is_close_to_that_of_the_file():
    rng = np.random.default_rng(0)
    codes = rng.laplace(0, 1.5, 3 * 160_000).reshape(3, -1)
    rows = codes[1].reshape(400, 400) * rng.lognormal(0, 0.7, 400)[:, None]  # spread enough for classes
    items = {
        "vector": Grid(np.rint(codes[0]).astype(np.int32), pack_step(0.1), 40, (160_000,), "float32"),
        "matrix": Grid(np.rint(rows).astype(np.int32).reshape(-1), pack_step(0.1), 40, (400, 400), "float32"),
        "small": Grid(np.rint(codes[2, :300]).astype(np.int32), pack_step(0.1), 40, (300,), "float32"),
    }
    assert estimated_size(items, {"seed": 1}) == pytest.approx(packed_size(items, {"seed": 1}, None), rel=0.02)
