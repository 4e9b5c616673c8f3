from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import noworse as nw
from noworse.judge.original import metric_of
from noworse.task.data import shared_samples
from noworse.task.task import Task, load_task
from zoo import detection, scenes
from zoo.fitting import WEIGHTS


class Oracle(nn.Module):
    """What a perfect net would say of given scenes."""

    def __init__(self, boxes: Tensor, classes: Tensor) -> None:
        super().__init__()
        cell, wanted, outcome = detection.targets(boxes, classes)
        self.logits = 20.0 * F.one_hot(outcome, detection.OUTCOMES)
        said = torch.cat([wanted[..., :2].logit(eps=1e-6), wanted[..., 2:]], -1)
        self.box = torch.zeros(len(boxes), 144, 4)
        for scene in range(len(boxes)):
            for k in range(int((classes[scene] >= 0).sum())):
                self.box[scene, cell[scene, k]] = said[scene, k]

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        return self.logits, self.box


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(f"{detection.__file__}:detector")


def test_a_perfect_net_finds_all() -> None:
    batch = scenes.draw("calib", 30, seed=4)
    oracle = Oracle(*batch[1:])
    assert detection.loss(oracle, batch).max().item() < 1e-3
    # two centres in one cell are the only thing such a net cannot say; these scenes have none
    assert detection.map_50_percent(oracle, [batch]) == pytest.approx(100)
    oracle.logits = oracle.logits.roll(1, 2)  # every class taken for the next
    assert detection.map_50_percent(oracle, [batch]) < 1


def test_targets_by_hand() -> None:
    boxes = torch.tensor([[[8.0, 16.0, 16.0, 48.0], [0.0, 0.0, 0.0, 0.0]]])  # centre 12, 32: cell 1, 4
    cell, wanted, outcome = detection.targets(boxes, torch.tensor([[6, -1]]))
    assert cell[0, 0] == 4 * 12 + 1
    assert wanted[0, 0].tolist() == pytest.approx([0.5, 0.0, 0.0, torch.tensor(4.0).log().item()])
    assert outcome[0].nonzero().flatten().tolist() == [49]
    assert outcome[0, 49] == 7


def test_loss_by_hand() -> None:
    boxes = torch.tensor([[[8.0, 16.0, 16.0, 48.0]] + [[0.0] * 4] * 4])
    classes = torch.tensor([[6, -1, -1, -1, -1]])
    batch = torch.zeros(1, 1, 96, 96), boxes, classes

    class Net(nn.Module):
        def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
            return torch.zeros(1, 144, 11), torch.zeros(1, 144, 4)

    # every outcome has probability 1/11 in 144 cells; the box says 1/2, 1/2, 0, 0 where 1/2, 0, 0, ln 4 is right
    errors = (0.5 - 0.05) + (torch.tensor(4.0).log().item() - 0.05)
    expected = 144 * torch.tensor(11.0).log().item() + detection.BOX_WEIGHT * errors
    assert detection.loss(Net(), batch).tolist() == pytest.approx([expected], rel=1e-5)


def test_what_is_distilled_ignores_boxes_of_nothing() -> None:
    class Net(nn.Module):
        def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
            logits = torch.zeros(1, 144, 11)
            logits[0, 1:, 0] = 40.0
            return logits, torch.ones(1, 144, 4)

    found = detection.forward(Net(), torch.zeros(1, 1, 96, 96))
    assert found.shape == (1, 144, 15)
    assert torch.allclose(found[0, 0, 11:], 10 / 11 * torch.tensor([torch.tensor(1.0).sigmoid()] * 2 + [1.0, 1.0]))
    assert found[0, 1:, 11:].abs().max() < 1e-6


def test_the_task_judges_other_scenes(task: Task) -> None:
    assert [tuple(b.shape) for b in task.calib] == [(100, 1, 96, 96)] * 15
    assert sum(len(batch[0]) for batch in task.verify) == 2000
    assert shared_samples(task.calib, task.verify) == 0


def test_precision_of_the_log(task: Task) -> None:
    record = json.loads((WEIGHTS / "detector.json").read_text())
    assert record["test_map"] >= 70
    with torch.no_grad():
        losses = torch.cat([task.loss(task.model, batch) for batch in task.verify])
    assert losses.double().mean().item() == pytest.approx(record["test_loss"], rel=1e-4)
    assert metric_of(task, task.model, task.verify[:2]) == pytest.approx(record["test_map"], abs=6)


@pytest.mark.slow
def test_a_compression_from_task_to_verdict(task: Task, tmp_path: Path) -> None:
    small = replace(task, calib=task.calib[:1], verify=task.verify[:1])
    options = nw.Options(iterations=4, batch=8, rounding="nearest")
    report = nw.compress_task(
        small, tmp_path / "detector.nwt", target=8, tolerance=None, options=options, progress=None
    )
    verdict = report.verdict
    assert report.ratio >= 8
    assert verdict.mean_difference < 0.5 * verdict.original_loss
    assert verdict.metric_original - verdict.metric_compressed < 10
