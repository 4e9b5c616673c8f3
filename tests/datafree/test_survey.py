"""What stays lossless, and what is equal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from noworse import compress_file, load_file
from noworse.checkpoint import Header, open_checkpoint
from noworse.datafree.survey import Ties, profile
from noworse.format.chunks import entropy

save_file = pytest.importorskip("safetensors.numpy").save_file
save_torch = pytest.importorskip("safetensors.torch").save_file


@pytest.mark.parametrize(
    ("stored", "dtype", "reason"),
    [
        (np.arange(9), "int64", "int64"),
        (np.ones((3, 3), np.float32), "float32", "constant"),
        (np.ones((), np.float32), "float32", "constant"),
        (np.zeros((0, 3), np.float32), "float32", "constant"),
        (np.array([1.0, np.nan]), "float64", "NaN"),
        (np.array([1.0, np.inf], np.float16), "float16", "infinite"),
        (np.array([1e300, 1.0, 2e300, 3e300]), "float64", "huge"),
        (np.array([0.0, -0.0]), "float64", "constant"),
    ],
)
def test_what_cannot_become_coarser_says_why(stored, dtype, reason):
    assert reason in profile(Header(dtype, stored.shape), stored)


def test_statistics_are_of_all_elements():
    stored = np.random.default_rng(0).normal(size=(400, 500)).astype(np.float32) + 9
    found = profile(Header("float32", stored.shape), stored)
    assert found.mean_square == pytest.approx(float((stored.astype(np.float64) ** 2).mean()))
    assert (found.largest, found.smallest) == (np.abs(stored).max(), np.abs(stored).min())
    assert not found.is_vector
    assert profile(Header("float32", (1, 3, 1)), stored[0, :3].reshape(1, 3, 1)).is_vector
    assert 20 < found.lossless_bits < 28


def test_entropy():
    assert entropy(np.array([4096, 0, 4096])) == pytest.approx(1.0, abs=1e-3)
    assert entropy(np.array([77])) == 0


def test_equal_tensors_are_found_by_their_elements(tmp_path):
    a = np.random.default_rng(0).normal(size=(40, 50))
    close = a.copy()
    close[20, 20] += 1
    tensors = {"a": a, "b": a.copy(), "c": close, "d": a.reshape(50, 40), "e": a.astype(np.float32), "f": a[:1].copy(), "g": a[:1].copy()}  # noqa: E501
    save_file(tensors, tmp_path / "a.safetensors")
    source = open_checkpoint(tmp_path / "a.safetensors")
    ties = Ties(source)
    for _ in range(2):  # the same answers when asked again
        for name in source.headers:
            ties.find(name, source.read(name))
        assert ties.found == {"b": "a"}


@pytest.mark.parametrize(("dtype", "largest"), [("float16", 65504.0), ("float32", 3.4e38), ("bfloat16", 3.38e38)])
def test_values_at_the_end_of_a_dtype_stay_as_they_are(dtype: str, largest: float, tmp_path: Path) -> None:
    """A mask of finfo.min must not decode to -inf, nor keep the file from being written."""
    kind = getattr(torch, dtype)
    mask = torch.triu(torch.full((64, 64), -largest, dtype=kind), 1)
    tensors = {"w": torch.randn(256, 128).to(kind), "mask": mask}
    save_torch(tensors, str(tmp_path / "a.safetensors"))
    compress_file(tmp_path / "a.safetensors", tmp_path / "a.nwt", target="6 bits")
    loaded = load_file(tmp_path / "a.nwt")
    assert torch.equal(loaded["mask"], mask)
    assert not torch.equal(loaded["w"], tensors["w"])
