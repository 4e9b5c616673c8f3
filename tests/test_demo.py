"""The demo of the zoo, as a user would type it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file as load_safetensors

from noworse import load_file
from zoo.nets import LeNet300100

ROOT = Path(__file__).parents[1]
ORIGINAL = 4 * 266_610  # bytes of LeNet-300-100


def call(*words: str) -> str:
    """Standard output of ``python -m``, which must end with exit code 0."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
def test_the_demo_runs_from_end_to_end(tmp_path: Path) -> None:
    words = ["lenet300", "--target", "40", "--iterations", "60", "--tolerance", "0.1"]
    shown = call("zoo.demo", *words, "--folder", str(tmp_path))
    for command in ("compress", "inspect", "verify", "decompress"):
        assert f"$ noworse {command} " in shown
    file, decoded = tmp_path / "lenet300.nwt", tmp_path / "lenet300.safetensors"
    size = file.stat().st_size
    assert 0.99 * ORIGINAL / 40 <= size <= ORIGINAL / 40

    found = json.loads(call("noworse", "inspect", "--json", str(file)))
    assert sum(found["bytes"].values()) == found["size"] == size
    assert found["original_size"] == ORIGINAL
    assert found["verdict"]["samples"] == 10_000

    tensors = load_safetensors(decoded)
    LeNet300100().load_state_dict(tensors, strict=True)
    assert all(torch.equal(tensors[name], value) for name, value in load_file(file).items())


@pytest.mark.slow
def test_the_demo_ends_where_a_tolerance_is_not_met(tmp_path: Path) -> None:
    options = ["--target", "60", "--tolerance", "1e-6", "--iterations", "5", "--folder", str(tmp_path)]
    command = [sys.executable, "-m", "zoo.demo", "lenet300", *options]
    (tmp_path / "lenet300.nwt").write_bytes(b"of an earlier run")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 3
    assert "tolerance was not met" in done.stderr
    assert not (tmp_path / "lenet300.nwt").exists()
