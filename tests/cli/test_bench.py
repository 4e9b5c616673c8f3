"""``noworse bench``: its sizes are those of the file, its entropy that of the codes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from noworse.cli import main
from noworse.format import File, write
from noworse.io import save_file
from noworse.representation import Constant, Grid, pack_step


def grids():
    rng = np.random.default_rng(0)
    codes = rng.laplace(size=40000).astype(np.int32)
    return {
        "w": Grid(codes, pack_step(0.1), 40, (200, 200), "float32"),
        "v": Grid(codes[:50], pack_step(0.1), 40, (50,), "float32"),
        "c": Constant(b"\0" * 4, (1000,), "float32"),
    }


def bench(capsys, *arguments):
    capsys.readouterr()
    assert main(["bench", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def test_sizes_symbols_and_entropy(tmp_path, capsys):
    write(tmp_path / "a.nwt", grids(), {})
    found = json.loads(bench(capsys, tmp_path / "a.nwt", "--json", "--rounds", 2))
    expected = 0.0
    for grid in grids().values():
        if isinstance(grid, Grid):
            counts = np.unique(grid.codes, return_counts=True)[1]
            expected += float((counts * np.log2(grid.size / counts)).sum()) / 8
    assert found["entropy_bytes"] == pytest.approx(expected)
    assert found["symbols"] == 40050
    assert found["decoded_bytes"] == 4 * 40050
    assert found["size"] == (tmp_path / "a.nwt").stat().st_size
    with File(tmp_path / "a.nwt") as file:
        where = file.attribution()
    assert found["coded_bytes"] == where["payload"] + where["tables"]
    assert 0.95 * expected < found["coded_bytes"] < 1.05 * expected
    for what in ("encode", "decode"):
        assert found[what]["megabytes_per_second"] == pytest.approx(4 * 40050 / found[what]["seconds"] / 1e6)
    assert found["load_seconds"] > 0
    assert found["safetensors_seconds"] > 0
    assert found["rounds"] == 2


def test_text_and_lossless_files(tmp_path, capsys):
    values = np.random.default_rng(0).normal(size=(300, 100)).astype(np.float32)
    save_file({"w": values, "e": np.zeros((0, 3))}, tmp_path / "a.nwt")
    text = bench(capsys, tmp_path / "a.nwt", "--rounds", 1)
    assert "120,000 decoded, 120,000 coded symbols" in text
    assert "medians of 1 rounds" in text
    assert "the same tensors from safetensors" in text


def test_model_files_are_stored_losslessly_first(tmp_path, capsys):
    save = pytest.importorskip("safetensors.numpy").save_file
    save({"w": np.random.default_rng(0).normal(size=5000).astype(np.float32)}, tmp_path / "a.safetensors")
    found = json.loads(bench(capsys, tmp_path / "a.safetensors", "--json", "--rounds", 1))
    assert found["file"].endswith("a.safetensors")
    assert found["decoded_bytes"] == 20000
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]


def test_files_without_codes_and_without_equals_in_safetensors(tmp_path, capsys):
    save_file({"c": np.ones(9)}, tmp_path / "a.nwt")
    assert "nothing is coded" in bench(capsys, tmp_path / "a.nwt", "--rounds", 1)
    save_file({"c": np.arange(9) * 1j}, tmp_path / "b.nwt")
    assert json.loads(bench(capsys, tmp_path / "b.nwt", "--json", "--rounds", 1))["safetensors_seconds"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["absent.nwt"], 2, "absent.nwt"),
        (["a.nwt", "--rounds", "0"], 2, "--rounds 0"),
        (["cut.nwt"], 4, "damaged file"),
        (["a.nwt", "--max-bytes", "5"], 4, "5"),
    ],
)
def test_what_is_refused(tmp_path, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    write("a.nwt", grids(), {})
    (tmp_path / "cut.nwt").write_bytes((tmp_path / "a.nwt").read_bytes()[:-3])
    assert main(["bench", *arguments]) == code
    shown = capsys.readouterr()
    assert message in shown.err
    assert shown.out == ""
