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


@pytest.mark.parametrize("anneal", [0, 2])
def test_an_interrupted_training_goes_on_as_if_it_had_not_been(anneal: int, tmp_path: Path) -> None:
    class Interrupted(Exception):
        pass

    def once(checkpoint: Path | None, last: int = 9) -> torch.Tensor:
        torch.manual_seed(3)
        model, judged = nn.Linear(4, 2), []

        def judge(_: nn.Module) -> dict[str, float]:
            judged.append(1)
            if len(judged) > last:
                raise Interrupted
            return {}

        recipe = Recipe("adamw", 0.05, 0.0, epochs=4, anneal=anneal)
        fit(model, lambda: (torch.randn(8, 4) for _ in range(30)), 30, lambda m, x: (m(x) - x[:, :2]).square().mean(),
            judge, recipe, checkpoint)
        return model.weight.detach()

    whole = once(None)
    with pytest.raises(Interrupted):
        once(tmp_path / "kept", last=1)
    assert torch.equal(once(tmp_path / "kept"), whole)
    assert (whole - torch.eye(2, 4)).abs().max() < 0.1


def test_how_long_is_decided_on_the_way(tmp_path: Path) -> None:
    """Before the rate falls, a longer training is the same as a shorter one."""

    def rates(epochs: int) -> list[float]:
        optimiser = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.5)
        schedule = fitting._schedule(optimiser, Recipe(rate=0.5, epochs=epochs, anneal=2), 200)
        found = []
        for _ in range(epochs * 200):
            found.append(optimiser.param_groups[0]["lr"])
            optimiser.step()
            schedule.step()
        return found

    short, long = rates(4), rates(6)
    assert short[:400] == long[:400]
    assert short[100:401] == [0.5] * 301
    assert short[600] == pytest.approx(0.25)
    assert short[-1] == pytest.approx(0.5 / 400)


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


def test_a_tensor_of_two_names_is_saved_once_and_stays_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def tied() -> nn.Module:
        model = nn.Sequential(nn.Linear(5, 5, bias=False), nn.ReLU(), nn.Linear(5, 5, bias=False))
        model[2].weight = model[0].weight
        return model

    monkeypatch.setattr(fitting, "WEIGHTS", tmp_path)
    model = tied()
    save("tied", model.bfloat16(), Recipe(), [{"epoch": 1}], {})
    assert (tmp_path / "tied.safetensors").stat().st_size < 2 * 2 * 25 + 200
    found = restore("tied", tied(), "train it", tmp_path)
    assert torch.equal(found[0].weight, model[0].weight.float())
    assert found[2].weight is found[0].weight
