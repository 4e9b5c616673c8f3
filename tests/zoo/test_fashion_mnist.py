from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from noworse.errors import BadInput
from noworse.judge.original import metric_of
from noworse.task.data import shared_samples
from noworse.task.task import Task, TaskUnavailable, load_task
from zoo import data, fashion_mnist
from zoo.fitting import WEIGHTS
from zoo.nets import NETS

FILE = Path(fashion_mnist.__file__)
QUICK = ("lenet300", "lenet5", "vit_tiny")  # nets that see the whole test set in seconds
EITHER = [pytest.param(n, marks=() if n in QUICK else pytest.mark.slow) for n in NETS]


def record(name: str) -> dict[str, object]:
    return json.loads((WEIGHTS / f"{name}.json").read_text())


@pytest.fixture(scope="module")
def lenet() -> Task:
    return fashion_mnist.lenet300()


@pytest.mark.parametrize(("name", "percent"), [("resnet20", 92), ("vgg_small", 92), ("hybrid", 89)])
def test_nets_reach_the_accuracy_asked_for(name: str, percent: float) -> None:
    assert record(name)["test_accuracy"] >= percent


@pytest.mark.parametrize("name", NETS)
def test_task_by_address(name: str) -> None:
    task = load_task(f"{FILE}:{name}")
    assert task.name == f"fashion_mnist:{name}"
    assert type(task.model) is NETS[name]
    assert not any(module.training for module in task.model.modules())
    assert [batch.shape for batch in task.calib] == [(250, 1, 28, 28)] * 16
    assert [(images.shape, labels.shape) for images, labels in task.verify] == [((100, 1, 28, 28), (100,))] * 100


@pytest.mark.parametrize("name", NETS)
def test_accuracy_of_the_log_on_2000_images(name: str) -> None:
    task = load_task(f"{FILE}:{name}")
    share = record(name)["test_accuracy"] / 100
    four_standard_errors = 4 * 100 * math.sqrt(share * (1 - share) / 2000)
    assert metric_of(task, task.model, task.verify[:20]) == pytest.approx(100 * share, abs=four_standard_errors)


@pytest.mark.parametrize("name", EITHER)
def test_accuracy_and_loss_of_the_log_on_the_whole_test_set(name: str) -> None:
    task = load_task(f"{FILE}:{name}")
    with torch.no_grad():  # one pass gives both
        logits = [(task.model(images), labels) for images, labels in task.verify]
    given = torch.nn.Identity()
    losses = torch.cat([task.loss(given, batch) for batch in logits])
    # other kernels may decide one of 10,000 images differently, and the log is rounded
    assert metric_of(task, given, logits) == pytest.approx(record(name)["test_accuracy"], abs=0.021)
    assert losses.double().mean().item() == pytest.approx(record(name)["test_loss"], abs=2e-5)


def test_no_test_image_is_in_calib(lenet: Task) -> None:
    assert shared_samples(lenet.calib, lenet.verify) == 0
    assert shared_samples(lenet.calib, lenet.calib[:2]) == 500  # that zero could have been another number


def test_calib_and_test_hold_all_classes_evenly(lenet: Task) -> None:
    counts = torch.bincount(torch.cat([labels for _, labels in lenet.verify]))
    assert counts.tolist() == [1000] * 10


def test_loss_is_per_sample_cross_entropy(lenet: Task) -> None:
    images, labels = (part[:7] for part in lenet.verify[3])
    with torch.no_grad():
        found = lenet.loss(lenet.model, (images, labels))
        logits = lenet.model(images).double()
    expected = [
        math.log(sum(math.exp(v) for v in row)) - row[k] for row, k in zip(logits.tolist(), labels, strict=True)
    ]
    assert found.tolist() == pytest.approx(expected, abs=1e-5)


def test_metric_counts_right_answers() -> None:
    found = fashion_mnist.accuracy_percent(torch.eye(3), (torch.eye(3), torch.tensor([0, 1, 0])))
    assert found.tolist() == [100, 100, 0]


@pytest.mark.parametrize("most", [0.2, 1.0])
def test_augment_blends_every_image_with_another(most: float) -> None:
    augment = fashion_mnist.Blend(most)
    images = torch.eye(8).reshape(8, 1, 8, 1).expand(8, 1, 8, 28).contiguous()  # image i is 1 in row i
    torch.manual_seed(1)
    blended = augment(images)
    shares = blended.mean(3).squeeze(1)  # (8 images, 8 sources)
    assert torch.allclose(shares.sum(1), torch.ones(8))
    assert ((shares > 1e-3).sum(1) <= 2).all()
    assert (shares.diagonal() >= 1 - most).all()
    assert not torch.allclose(blended, images)
    torch.manual_seed(1)
    assert torch.equal(augment(images), blended)


def test_unknown_nets_are_named() -> None:
    with pytest.raises(BadInput, match=r"'alexnet'.*resnet20"):
        fashion_mnist.build("alexnet")


def test_development_task_says_how_to_fetch_its_images(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(data, "FULL", tmp_path / "full.npz")
    with pytest.raises(TaskUnavailable, match=r"python -m zoo\.data"):
        fashion_mnist.dev_task("lenet300")


@pytest.mark.skipif(not data.FULL.exists(), reason="needs the full training set: python -m zoo.data")
def test_development_task_is_judged_on_other_images(lenet: Task) -> None:
    task = fashion_mnist.dev_task("lenet300")
    assert sum(len(labels) for _, labels in task.verify) == data.DEVELOPMENT
    assert shared_samples(lenet.verify, task.verify) == shared_samples(task.calib, task.verify) == 0
    logged = record("lenet300")["log"][-1]
    assert metric_of(task, task.model, task.verify) == pytest.approx(logged["dev_accuracy"], abs=0.021)


def test_task_from_another_folder(tmp_path: Path) -> None:
    code = f"from noworse.task.task import load_task; print(load_task({f'{FILE}:lenet300'!r}).name)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (0, "fashion_mnist:lenet300"), done.stderr
