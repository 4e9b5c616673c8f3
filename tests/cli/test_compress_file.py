"""``noworse compress`` on model files, in processes of its own: what it prints, writes and refuses."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from noworse.cli import main
from noworse.format import File
from noworse.io import load_file

save_file = pytest.importorskip("safetensors.numpy").save_file
load_safetensors = pytest.importorskip("safetensors.numpy").load_file


def noworse(folder: Path, *arguments: object, without: str = "torch") -> subprocess.CompletedProcess[str]:
    """Run the command line in ``folder`` where the packages ``without`` cannot be imported."""
    block = f"import sys; sys.modules.update(dict.fromkeys({without.split()!r})); "
    start = block + "from noworse.cli import main; raise SystemExit(main())"
    command = [sys.executable, "-c", start, *map(str, arguments)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    save_file(
        {
            "w": rng.normal(size=(200, 100)).astype(np.float32),
            "b": rng.normal(size=200).astype(np.float32),
            "n": np.array(7),
        },
        tmp_path / "model.safetensors",
    )
    return tmp_path


def test_lossless_there_and_back_without_torch(folder):
    found = noworse(folder, "compress", "model.safetensors", "-o", "m.nwt", "--lossless")
    assert found.returncode == 0, found.stderr
    size = (folder / "m.nwt").stat().st_size
    assert found.stdout.startswith(f"m.nwt: {size:,} bytes, ")
    assert "all 3 tensors are stored bit for bit" in found.stdout
    assert noworse(folder, "decompress", "m.nwt", "-o", "back.safetensors").returncode == 0
    before, after = (load_safetensors(folder / name) for name in ("model.safetensors", "back.safetensors"))
    assert {n: t.tobytes() for n, t in before.items()} == {n: t.tobytes() for n, t in after.items()}


@pytest.mark.parametrize(
    "flags", [["--target", "4bits"], ["--target", "4 bits"], ["--target", "8x"], ["--target", "9.5KB"], ["--target", 8]]
)
def test_targets_as_json(folder, flags):
    found = noworse(folder, "compress", "model.safetensors", *flags, "-o", "m.nwt", "--json")
    assert found.returncode == 0, found.stderr
    assert found.stderr == ""
    report = json.loads(found.stdout)
    wanted = {"4bits": 10100.5, "4 bits": 10100.5, "9.5KB": 9500}.get(flags[1], 80812 / 8)  # of 20,201 elements
    assert 0.99 * wanted - 1 <= report["size"] == (folder / "m.nwt").stat().st_size <= wanted
    assert report["settings"]["mode"] == "data-free, no loss verified"
    assert report["lossless"] == 1
    shown = noworse(folder, "inspect", "m.nwt").stdout
    assert "no loss verified" in shown
    assert "verdict: none" in shown


def test_a_bound_of_the_error(folder):
    found = noworse(folder, "compress", "model.safetensors", "--max-error", "1%", "-o", "m.nwt")
    assert found.returncode == 0, found.stderr
    assert "No loss was verified" in found.stdout
    before, after = load_safetensors(folder / "model.safetensors"), load_file(folder / "m.nwt", framework="np")
    for name, tensor in before.items():
        assert np.abs(tensor.astype(float) - after[name]).max() <= 0.01 * np.abs(tensor).max()


def test_a_folder_of_shards(tmp_path):
    for number in range(2):
        save_file({f"t{number}": np.full((40, 40), number) + np.eye(40)}, tmp_path / f"m-{number}.safetensors")
    weight_map = {f"t{number}": f"m-{number}.safetensors" for number in range(2)}
    (tmp_path / "m.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    for source in (".", "m.safetensors.index.json"):
        assert noworse(tmp_path, "compress", source, "--lossless", "-o", "m.nwt").returncode == 0
        assert list(load_file(tmp_path / "m.nwt", framework="np")) == ["t0", "t1"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["model.safetensors"], 2, "with one of --lossless, --target and --max-error"),
        (["model.safetensors", "--lossless", "--target", "4"], 2, "with one of --lossless, --target and --max-error"),
        (["model.safetensors", "--target", "4", "--max-error", "1"], 2, "with one of"),
        (["model.safetensors", "--lossless", "--tolerance", "0.01"], 2, "--tolerance cannot be used with a model file"),
        (["model.safetensors", "--lossless", "--seed", "0"], 2, "--seed cannot be used with a model file"),
        (["model.safetensors", "--target", "4", "--set", "zone=1"], 2, "--set cannot be used with a model file"),
        (["model.safetensors", "--target", "4", "--options", "o"], 2, "--options cannot be used with a model file"),
        (["model.safetensors", "--target", "4", "--iterations", "9"], 2, "--iterations cannot be used with a model"),
        (["model.safetensors", "--target", "4", "--keep", "*"], 2, "--keep cannot be used with a model file"),
        (["model.safetensors", "--target", "4", "--coder", "max"], 2, "--coder cannot be used with a model file"),
        (["model.safetensors", "--target", "much"], 2, "target 'much' is not understood"),
        (["model.safetensors", "--target", "1x"], 2, "expected less than the original's"),
        (["model.safetensors", "--max-error", "-3"], 2, "max_error '-3' is not understood"),
        (["model.safetensors", "--target", "100B"], 3, "99 to 100 % of 100 bytes"),
        (["absent.safetensors", "--lossless"], 2, "absent.safetensors"),
        (["broken.safetensors", "--lossless"], 2, "broken.safetensors is no safetensors file"),
        (["empty", "--lossless"], 2, "empty holds no .safetensors or .bin file"),
        (["evil.pt", "--lossless"], 2, "evil.pt: torch.load(weights_only=True) refuses it"),
        (["task.py:net", "--lossless"], 2, "--lossless cannot be used with a task"),
        (["task.py:net", "--max-error", "1"], 2, "--max-error cannot be used with a task"),
    ],
)
def test_what_is_refused_leaves_no_file(folder, monkeypatch, capfd, arguments, code, message):
    (folder / "broken.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-5])
    (folder / "evil.pt").write_bytes(pickle.dumps({"w": Bomb(str(folder / "run"))}))
    (folder / "empty").mkdir()
    (folder / "o").write_text("{}")
    (folder / "bad.nwt").write_bytes(b"old")
    monkeypatch.chdir(folder)
    before = sorted(folder.iterdir())
    assert main(["compress", *arguments, "-o", "bad.nwt"]) == code
    shown = capfd.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert shown.err.startswith("noworse: ")
    assert message in shown.err
    assert sorted(folder.iterdir()) == before
    assert (folder / "bad.nwt").read_bytes() == b"old"


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_a_pickle_is_refused_in_a_process_of_its_own(folder):
    (folder / "evil.pt").write_bytes(pickle.dumps({"w": Bomb(str(folder / "run"))}))
    found = noworse(folder, "compress", "evil.pt", "--lossless", "-o", "m.nwt", without="")
    assert (found.returncode, found.stdout) == (2, "")
    assert not (folder / "run").exists()
    assert not (folder / "m.nwt").exists()


def test_packages_that_are_missing_are_named(folder):
    (folder / "a.pt").write_bytes(b"")
    found = noworse(folder, "compress", "a.pt", "--lossless", "-o", "m.nwt")
    assert found.returncode == 2
    assert "torch is not installed" in found.stderr
    found = noworse(folder, "compress", "model.safetensors", "--lossless", "-o", "m.nwt", without="torch safetensors")
    assert (found.returncode, found.stderr.count("\n")) == (2, 1)
    assert "safetensors is not installed: pip install" in found.stderr


def test_a_folder_that_is_missing_is_named(folder):
    found = noworse(folder, "compress", "model.safetensors", "--lossless", "-o", "no/such/m.nwt")
    assert found.returncode == 2
    assert "cannot write no/such/m.nwt" in found.stderr


def test_settings_are_in_the_file(folder):
    assert noworse(folder, "compress", "model.safetensors", "--target", "3 bits", "-o", "m.nwt").returncode == 0
    with File(folder / "m.nwt") as file:
        assert file.settings == {"mode": "data-free, no loss verified", "target": "3 bits"}
        assert file.verdict is None
