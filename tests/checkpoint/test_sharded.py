"""Models in several files."""

from __future__ import annotations

import json

import numpy as np
import pytest

from noworse.checkpoint import open_checkpoint
from noworse.errors import BadInput

save_file = pytest.importorskip("safetensors.numpy").save_file


def shards(folder, files, weight_map=None):
    for file, tensors in files.items():
        save_file(tensors, folder / file)
    found = {name: file for file, tensors in files.items() for name in tensors}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map or found}))
    return index


FILES = {
    "model-00001-of-00002.safetensors": {"a": np.arange(6.0), "b": np.ones((2, 2), np.float16)},
    "model-00002-of-00002.safetensors": {"c": np.arange(4)},
}


@pytest.mark.parametrize("by", ["index", "folder"])
def test_all_shards_make_one_model(tmp_path, by):
    index = shards(tmp_path, FILES)
    found = open_checkpoint(index if by == "index" else tmp_path)
    assert {name: header.shape for name, header in found.headers.items()} == {"a": (6,), "b": (2, 2), "c": (4,)}
    for tensors in FILES.values():
        for name, tensor in tensors.items():
            np.testing.assert_array_equal(found.read(name), tensor)


def test_metadata_of_all_shards_are_kept(tmp_path):
    for number, name in enumerate("ab"):
        meta = {"format": "pt", name: str(number)}
        save_file({name: np.ones(2)}, tmp_path / f"{name}.safetensors", metadata=meta)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "a.safetensors", "b": "b.safetensors"}}))
    assert open_checkpoint(index).metadata == {"format": "pt", "a": "0", "b": "1"}


def test_shards_that_torch_saved(tmp_path):
    torch = pytest.importorskip("torch")
    torch.save({"a": torch.ones(2)}, tmp_path / "x-1.bin")
    torch.save({"b": torch.zeros(3)}, tmp_path / "x-2.bin")
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "x-1.bin", "b": "x-2.bin"}}))
    for path in (index, tmp_path):
        assert {n: header.shape for n, header in open_checkpoint(path).headers.items()} == {"a": (2,), "b": (3,)}
    for name in ("pytorch_model.bin.index.json", "x-2.bin"):
        (tmp_path / name).unlink()
    assert list(open_checkpoint(tmp_path).headers) == ["a"]


def test_a_folder_below_home(tmp_path, monkeypatch):
    save_file({"a": np.ones(2)}, tmp_path / "one.safetensors")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert list(open_checkpoint("~").headers) == list(open_checkpoint("~/one.safetensors").headers) == ["a"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is no JSON"),
        ("[]", "weight_map"),
        ('{"weight_map": {}}', "weight_map"),
        ('{"weight_map": {"a": 3}}', "weight_map"),
        ('{"weight_map": {"a": "../secret.safetensors"}}', "expected one in its own folder"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "expected one in its own folder"),
        ('{"weight_map": {"a": "x\\\\y.safetensors"}}', "expected one in its own folder"),
        ('{"weight_map": {"a": "x\\u0000y.safetensors"}}', "expected one in its own folder"),
        ('{"weight_map": {"a": "x\\ud800y.safetensors"}}', "expected one in its own folder"),
        ("[" * 200_000, "is no JSON"),
        ('{"weight_map": ' + '{"a":' * 200_000, "is no JSON"),
        ("1" * 200_000, "is no JSON|expected an object"),
        ('{"weight_map": {"a": ".."}}', "expected one in its own folder"),
        ('{"weight_map": {"a": "notes.txt"}}', "is no model file"),
    ],
)
def test_bad_indexes_are_refused(tmp_path, text, message):
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(BadInput, match=message):
        open_checkpoint(tmp_path / "model.safetensors.index.json")


def test_index_and_shards_must_agree(tmp_path):
    first, second = FILES
    everything = {"a": first, "b": first, "c": second}
    with pytest.raises(BadInput, match="no shard holds d"):
        open_checkpoint(shards(tmp_path, FILES, {**everything, "d": second}))
    with pytest.raises(BadInput, match=r"tensor 'b' lies in model-00001-of-00002\.safetensors, the index says None"):
        open_checkpoint(shards(tmp_path, FILES, {"a": first, "c": second}))
    (tmp_path / second).unlink()
    with pytest.raises(OSError, match="00002-of-00002"):
        open_checkpoint(tmp_path)


def test_folders(tmp_path):
    with pytest.raises(BadInput, match=r"holds no \.safetensors or \.bin file"):
        open_checkpoint(tmp_path)
    save_file({"a": np.ones(2)}, tmp_path / "one.safetensors")
    assert list(open_checkpoint(tmp_path).headers) == ["a"]
    save_file({"a": np.ones(2)}, tmp_path / "two.safetensors")
    with pytest.raises(BadInput, match=r"holds one\.safetensors, two\.safetensors: name the one"):
        open_checkpoint(tmp_path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(BadInput, match=r"is no model file: expected one that ends in \.safetensors"):
        open_checkpoint(tmp_path / "weights.h5")


def test_what_is_no_path_is_refused():
    with pytest.raises(BadInput, match=r"the model file is a dict: expected a path \(noworse.compress takes models\)"):
        open_checkpoint({"a": np.ones(2)})
