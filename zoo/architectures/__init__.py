"""The architectures of the L² paper at full size, under the tensor names of the published checkpoints.

Written from the papers, since torchvision and timm do not install beside every build of torch; ``build(name)`` gives a
module into which the checkpoints of the library that ``names`` tells load strictly. ``parameters`` are the published
counts, which tests compare.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from zoo.architectures.mobile import MNASNet, MobileNetV2
from zoo.architectures.regnet import RegNetX
from zoo.architectures.resnet import ResNet
from zoo.architectures.vit import VisionTransformer
from zoo.architectures.yolov5 import YOLOv5

__all__ = ["ARCHITECTURES", "Architecture", "build"]


@dataclass(frozen=True)
class Architecture:
    """How a net is built, how many parameters it is published with, and what it is fed."""

    make: Callable[[], nn.Module]
    parameters: int
    names: str  # the library whose checkpoints it loads
    side: int = 224  # pixels of its square input
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    deviation: tuple[float, float, float] = (0.229, 0.224, 0.225)
    short_side: int = 256  # pixels to which an image is resized before its centre is cut out
    cubic: bool = False  # interpolation: bicubic, or bilinear


HALF = (0.5, 0.5, 0.5)
ARCHITECTURES = {
    "resnet18": Architecture(lambda: ResNet((2, 2, 2, 2), bottleneck=False), 11_689_512, "torchvision"),
    "resnet50": Architecture(lambda: ResNet((3, 4, 6, 3), bottleneck=True), 25_557_032, "torchvision"),
    "mobilenetv2": Architecture(MobileNetV2, 3_504_872, "torchvision"),
    "mnasnet1_0": Architecture(lambda: MNASNet(1.0), 4_383_312, "torchvision"),
    "mnasnet2_0": Architecture(lambda: MNASNet(2.0), 12_469_944, "L² repository"),
    "regnetx_600m": Architecture(lambda: RegNetX(16, 48, 36.97, 2.24, 24), 6_196_040, "timm", cubic=True),
    "regnetx_3200m": Architecture(lambda: RegNetX(25, 88, 26.31, 2.25, 48), 15_296_552, "timm", cubic=True),
    "vit_b_16": Architecture(
        VisionTransformer, 86_567_656, "timm", mean=HALF, deviation=HALF, short_side=248, cubic=True
    ),
    "yolov5m": Architecture(lambda: YOLOv5(0.67, 0.75), 21_190_557, "ultralytics", side=640),
}


def build(name: str) -> nn.Module:
    """The net ``name`` with PyTorch's own initial weights, in eval mode."""
    return ARCHITECTURES[name].make().eval()
