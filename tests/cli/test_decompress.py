"""``noworse decompress``: to safetensors, bit for bit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file as load_safetensors

from noworse.io import load_file
from tests.cli.outcome import NUMPY_ALONE, Run, single_object


def test_decompress_with_numpy_alone_keeps_every_bit(
    folder: Path, mixed_path: Path, noworse: Callable[..., Run]
) -> None:
    found = noworse("decompress", mixed_path.name, "-o", "mixed.safetensors", "--json", without=NUMPY_ALONE)
    assert found.returncode == 0, found.stderr
    written = folder / "mixed.safetensors"
    assert single_object(found) == {
        "file": "mixed.nwt", "out": "mixed.safetensors", "tensors": 10, "size": written.stat().st_size
    }  # fmt: skip
    expected, tensors = load_file(mixed_path), load_safetensors(written)
    assert set(tensors) == set(expected)
    for name, tensor in expected.items():
        assert tensors[name].dtype == tensor.dtype
        assert tensors[name].shape == tensor.shape
        assert torch.equal(tensors[name].reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))
    with safe_open(written, "pt") as file:
        assert json.loads(file.metadata()["noworse.ties"]) == {"b.tied": "a.weight"}
        assert file.metadata()["format"] == "pt"
    text = noworse("decompress", mixed_path.name, "-o", "again.safetensors", without=NUMPY_ALONE)
    assert "10 tensors" in text.stdout
    assert (folder / "again.safetensors").read_bytes() == written.read_bytes()


def test_a_file_is_not_decoded_into_itself(folder: Path, mixed_path: Path, noworse: Callable[..., Run]) -> None:
    before = mixed_path.read_bytes()
    found = noworse("decompress", mixed_path.name, "-o", mixed_path.name)
    assert found.returncode == 2
    assert (
        found.stderr == f"noworse: cannot write {mixed_path.name}: it is {mixed_path.name}, which is read; "
        "expected another file\n"
    )
    assert mixed_path.read_bytes() == before


def test_the_name_must_not_promise_another_format(folder: Path, mixed_path: Path, noworse: Callable[..., Run]) -> None:
    found = noworse("decompress", mixed_path.name, "-o", "mixed.pt")
    assert found.returncode == 2
    assert "mixed.pt is to be a .safetensors file: expected a name that ends so" in found.stderr
    assert not (folder / "mixed.pt").exists()
