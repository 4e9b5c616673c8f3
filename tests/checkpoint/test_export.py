"""From our files to those of safetensors."""

from __future__ import annotations

import io
import json
import struct

import numpy as np
import pytest

from noworse.checkpoint import export, write_safetensors
from noworse.errors import BadInput
from noworse.format import File, chunks, pack, writer
from noworse.io import safe_open
from noworse.representation import Constant, Grid, Tied

ONE = Constant(bytes(4), (), "float32")


def written(items, settings=None):
    out = io.BytesIO()
    with File(pack(items, settings or {}, None)) as file:
        assert write_safetensors(file, out) == len(out.getvalue())
    length = struct.unpack("<Q", out.getvalue()[:8])[0]
    return json.loads(out.getvalue()[8 : 8 + length]), out.getvalue()


def test_ties_are_told_unless_the_file_has_metadata_of_its_own():
    items = {"a": ONE, "b": Tied("a", (), "float32")}
    assert written(items)[0]["__metadata__"] == {"format": "pt", "noworse.ties": '{"b": "a"}'}
    assert written(items, {"metadata": {"x": "y"}})[0]["__metadata__"] == {"x": "y"}


def test_the_library_reads_names_beyond_ascii():
    load = pytest.importorskip("safetensors.numpy").load
    assert set(load(written({"名": ONE, "b": Tied("名", (), "float32")})[1])) == {"b", "名"}


def test_a_header_that_safetensors_refuses_is_not_written(monkeypatch):
    monkeypatch.setattr(export, "LONGEST", 150)
    written({"a": ONE})
    for long in (100, 200):
        with pytest.raises(BadInput, match=r"a header of \d+ bytes or more, expected at most 150, which is all"):
            written({"a" * long: ONE})


def test_what_many_are_tied_to_is_decoded_a_few_times(tmp_path, monkeypatch):
    """900 ties to a matrix that is slow to decode: 214 bytes once took 9 seconds."""
    monkeypatch.setattr(writer, "LARGE_CODES", 100)  # a stream of its own, which is not kept
    codes = np.random.default_rng(0).laplace(size=400).astype(np.int32)
    items = {"a": Grid(codes, 30000, 40, (20, 20), "float16")}
    items.update({f"tied.{number}": Tied("a", (20, 20), "float16") for number in range(50)})
    data = pack(items, {}, None, "max")
    calls = []
    decode = chunks.context.decode
    monkeypatch.setattr(chunks.context, "decode", lambda *arguments: calls.append(0) or decode(*arguments))
    with File(data) as file:
        write_safetensors(file, io.BytesIO())
    assert len(calls) <= 2
    (tmp_path / "a.nwt").write_bytes(data)
    with safe_open(tmp_path / "a.nwt", "np") as opened:
        found = [opened.get_tensor(name) for name in opened.keys()]  # noqa: SIM118
    assert len(calls) <= 4
    found[1][:] = 7  # no other tensor's memory
    assert all((tensor == items["a"].decode()).all() for tensor in [found[0], *found[2:]])
