"""MobileNetV2 (Sandler et al. 2018, Table 2) and MNASNet-B1 (Tan et al. 2019, Figure 7), under torchvision's names."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

LAST = 1280  # channels before the classifier


def conv_norm(channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1) -> list[nn.Module]:
    """A convolution that keeps the size but for its stride, and its batch norm."""
    convolution = nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [convolution, nn.BatchNorm2d(channels)]


class InvertedResidual(nn.Module):
    """Expansion, depthwise convolution, projection.

    In MobileNetV2's checkpoints every activated convolution is ``nested`` in a sequence of its own (and activated by
    ReLU6), in MNASNet's they all lie in one.
    """

    def __init__(
        self, channels_in: int, channels: int, stride: int, expansion: int, kernel: int = 3, nested: bool = True
    ) -> None:
        super().__init__()
        hidden = channels_in * expansion
        self.residual = stride == 1 and channels_in == channels
        activation: type[nn.Module] = nn.ReLU6 if nested else nn.ReLU
        parts = [[*conv_norm(channels_in, hidden, 1), activation()]] if expansion != 1 else []
        parts.append([*conv_norm(hidden, hidden, kernel, stride, hidden), activation()])
        front = [nn.Sequential(*part) for part in parts] if nested else [layer for part in parts for layer in part]
        self.place = "conv" if nested else "layers"
        self.add_module(self.place, nn.Sequential(*front, *conv_norm(hidden, channels, 1)))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.get_submodule(self.place)(x)
        return x + y if self.residual else y


class MobileNetV2(nn.Module):
    """Images (B, 3, H, W) to logits (B, 1000); settings are expansion, channels, repeats, stride."""

    SETTINGS: ClassVar = [
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ]

    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.Sequential(*conv_norm(3, 32, 3, 2), nn.ReLU6())]
        channels_in = 32
        for expansion, channels, repeats, stride in self.SETTINGS:
            for index in range(repeats):
                layers.append(InvertedResidual(channels_in, channels, stride if index == 0 else 1, expansion))
                channels_in = channels
        layers.append(nn.Sequential(*conv_norm(channels_in, LAST, 1), nn.ReLU6()))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(LAST, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.features(x).mean((2, 3)))


def scaled(channels: int, width: float) -> int:
    """Channels times ``width``, to the nearest multiple of 8 that is not more than a tenth smaller."""
    nearest = max(8, int(channels * width + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels * width else nearest + 8


class MNASNet(nn.Module):
    """MNASNet-B1 of any ``width``, its first layers included; settings are kernel, stride, expansion, repeats."""

    CHANNELS: ClassVar = (32, 16, 24, 40, 80, 96, 192, 320)
    SETTINGS: ClassVar = [(3, 2, 3, 3), (5, 2, 3, 3), (5, 2, 6, 3), (3, 1, 6, 2), (5, 2, 6, 4), (3, 1, 6, 1)]

    def __init__(self, width: float, classes: int = 1000) -> None:
        super().__init__()
        stem, first, *rest = (scaled(channels, width) for channels in self.CHANNELS)
        layers = [*conv_norm(3, stem, 3, 2), nn.ReLU(), *conv_norm(stem, stem, 3, 1, stem), nn.ReLU()]
        layers += conv_norm(stem, first, 1)
        channels_in = first
        for channels, (kernel, stride, expansion, repeats) in zip(rest, self.SETTINGS, strict=True):
            blocks = []
            for index in range(repeats):
                step = stride if index == 0 else 1
                blocks.append(InvertedResidual(channels_in, channels, step, expansion, kernel, nested=False))
                channels_in = channels
            layers.append(nn.Sequential(*blocks))
        self.layers = nn.Sequential(*layers, *conv_norm(channels_in, LAST, 1), nn.ReLU())
        self.classifier = nn.Sequential(nn.Dropout(0.2), nn.Linear(LAST, classes))

    def forward(self, x: Tensor) -> Tensor:
        return self.classifier(self.layers(x).mean((2, 3)))
