"""Tasks on Fashion-MNIST, one per net of the zoo: ``zoo/fashion_mnist.py:resnet20`` and its sisters.

``calib`` is 4,000 training images without their labels, ``verify`` the whole test set with labels, the loss is the
cross-entropy in nats, the metric the accuracy in per cent. To choose settings without touching the test set, use
``dev_task("resnet20")``: the same task judged on the 5,000 training images that no net was trained on.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from noworse.errors import BadInput
from noworse.task.task import Task, TaskUnavailable
from zoo import data
from zoo.classify import accuracy_percent, loss
from zoo.fitting import restore
from zoo.nets import NETS

CALIB_BATCH, VERIFY_BATCH = 250, 100  # a pass over batches of 500 takes 1.4 times as long: activations leave the cache
FULL_BLENDS = ("lenet300", "lenet5")  # nets of mostly dense layers, which adapt to few images all too well


@dataclass(frozen=True)
class Blend:
    """Random blends of each image with another of the batch (mixup, Zhang et al. 2018), by torch's global generator.

    Distillation needs no labels for blends, and they vary a small calibration set. Up to ``most`` of a blend is the
    other image: the more, the further it is from what the net will see.
    """

    most: float

    def __call__(self, images: Tensor) -> Tensor:
        weights = self.most * torch.rand(len(images), 1, 1, 1)
        return (1 - weights) * images + weights * images[torch.randperm(len(images))]


def build(name: str, split: str = "test") -> Task:
    """The task of one net, judged on ``"test"`` or ``"development"`` (which needs the full training set)."""
    if name not in NETS:
        raise BadInput(f"unknown net {name!r}: the zoo has {', '.join(NETS)}")
    try:
        images, labels = data.load(split)
    except FileNotFoundError as error:
        raise TaskUnavailable(str(error)) from error
    return Task(
        model=restore(name, NETS[name](), f"python -m zoo.train {name}"),
        loss=loss,
        calib=list(data.load("calib")[0].split(CALIB_BATCH)),
        verify=list(zip(images.split(VERIFY_BATCH), labels.split(VERIFY_BATCH), strict=True)),
        score=accuracy_percent,
        augment=Blend(1.0 if name in FULL_BLENDS else 0.2),
        name=f"fashion_mnist:{name}" + ("" if split == "test" else f" ({split})"),
    )


def dev_task(name: str) -> Task:
    """The task of one net judged on the development images instead of the test set."""
    return build(name, "development")


def lenet300() -> Task:
    """LeNet-300-100, 266,610 parameters."""
    return build("lenet300")


def lenet5() -> Task:
    """LeNet-5 (Caffe's variant), 431,080 parameters."""
    return build("lenet5")


def resnet20() -> Task:
    """ResNet-20, 16-32-64 channels."""
    return build("resnet20")


def vgg_small() -> Task:
    """VGG-small with batch norm."""
    return build("vgg_small")


def mobilenetv2() -> Task:
    """MobileNetV2 x0.5 with a stride-1 stem."""
    return build("mobilenetv2")


def vit_tiny() -> Task:
    """ViT-tiny, patch 4."""
    return build("vit_tiny")


def hybrid() -> Task:
    """A convolutional stem before two transformer blocks of width 96."""
    return build("hybrid")
