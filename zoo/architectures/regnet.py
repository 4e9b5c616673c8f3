"""RegNetX (Radosavovic et al. 2020): widths from a quantised linear rule, bottlenecks of ratio 1; timm's names."""

from __future__ import annotations

import math
from itertools import groupby

from torch import Tensor, nn
from torch.nn import functional as F

STEM = 32


class ConvNorm(nn.Module):
    """Convolution, batch norm, and ReLU where ``active``."""

    def __init__(
        self, channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1, active: bool = True
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(channels)
        self.active = active

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return F.relu(x) if self.active else x


class Bottleneck(nn.Module):
    """1x1, grouped 3x3, 1x1, and a shortcut that is projected where the shape changes."""

    def __init__(self, channels_in: int, channels: int, stride: int, group: int) -> None:
        super().__init__()
        self.conv1 = ConvNorm(channels_in, channels, 1)
        self.conv2 = ConvNorm(channels, channels, 3, stride, channels // group)
        self.conv3 = ConvNorm(channels, channels, 1, active=False)
        changed = stride != 1 or channels_in != channels
        self.downsample = ConvNorm(channels_in, channels, 1, stride, active=False) if changed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.conv3(self.conv2(self.conv1(x))) + self.downsample(x))


def stage_widths(depth: int, initial: int, slope: float, factor: float, group: int) -> list[tuple[int, int]]:
    """Width and number of blocks of each stage: equations 2 to 4, widths to multiples of 8, then of the group."""
    widths = []
    for index in range(depth):
        power = round(math.log((initial + slope * index) / initial) / math.log(factor))
        width = round(initial * factor**power / 8) * 8
        size = min(group, width)
        widths.append(round(width / size) * size)
    return [(width, len(list(same))) for width, same in groupby(widths)]


class Head(nn.Module):
    """Mean over positions and a linear layer."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(x.mean((2, 3)))


class RegNetX(nn.Sequential):
    """Images (B, 3, H, W) to logits (B, 1000); parameters d, w_0, w_a, w_m and the group width, as in the paper."""

    def __init__(self, depth: int, initial: int, slope: float, factor: float, group: int, classes: int = 1000) -> None:
        super().__init__()
        self.stem = ConvNorm(3, STEM, 3, 2)
        channels_in = STEM
        for number, (width, blocks) in enumerate(stage_widths(depth, initial, slope, factor, group), 1):
            stage = nn.Sequential()
            for index in range(blocks):
                block = Bottleneck(channels_in, width, 1 if index else 2, min(group, width))
                stage.add_module(f"b{index + 1}", block)
                channels_in = width
            self.add_module(f"s{number}", stage)
        self.head = Head(channels_in, classes)
