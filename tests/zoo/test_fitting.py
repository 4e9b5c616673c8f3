from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import torch
from torch import nn

from noworse.errors import BadInput
from noworse.task.task import TaskUnavailable
from zoo import fitting
from zoo.fitting import WEIGHTS, Recipe, fit, restore, save


@pytest.mark.parametrize("record", sorted(WEIGHTS.glob("*.json")), ids=lambda path: path.stem)
def test_all_weights_are_those_of_their_training_log(record: Path) -> None:
    log = json.loads(record.read_text())
    content = record.with_suffix(".safetensors").read_bytes()
    assert hashlib.sha256(content).hexdigest() == log["sha256"]
    assert log["net"] == record.stem
    assert len(log["log"]) == log["recipe"]["epochs"]


@pytest.mark.parametrize("optimiser", ["sgd", "adamw"])
def test_fit_finds_a_linear_map_and_repeats_itself(optimiser: str) -> None:
    def once() -> tuple[nn.Module, list[dict[str, float]]]:
        torch.manual_seed(3)
        model = nn.Linear(4, 2)
        x = torch.randn(64, 4)
        y = x @ torch.arange(8.0).reshape(4, 2) / 8
        recipe = Recipe(optimiser, 0.05, 0.0, epochs=4, batch=64)
        return model, fit(model, lambda: [(x, y)] * 50, 50, lambda m, b: (m(b[0]) - b[1]).square().mean(),
                          lambda m: {"dev_loss": (m(x) - y).square().mean().item()}, recipe)

    model, log = once()
    assert not model.training
    assert [row["epoch"] for row in log] == [1, 2, 3, 4]
    assert log[-1]["dev_loss"] < 1e-3 < log[0]["train_loss"]
    again, _ = once()
    assert torch.equal(model.weight, again.weight)


def test_what_is_saved_is_restored_unless_it_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "WEIGHTS", tmp_path)
    model = nn.Linear(3, 2)
    save("net", model, Recipe(), [{"epoch": 1}], {"test_loss": 0.5})
    assert torch.equal(restore("net", nn.Linear(3, 2), "train it", tmp_path).weight, model.weight)
    path = tmp_path / "net.safetensors"
    content = bytearray(path.read_bytes())
    expected = hashlib.sha256(content).hexdigest()
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(BadInput, match=f"SHA-256.*{expected}"):
        restore("net", nn.Linear(3, 2), "train it", tmp_path)
    with pytest.raises(TaskUnavailable, match=r"other\.safetensors.*train it"):
        restore("other", nn.Linear(3, 2), "train it", tmp_path)
