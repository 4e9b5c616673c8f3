"""ResNet for 224 x 224 images (He et al. 2016, Table 1; stride 2 in the 3x3 convolution of a bottleneck, "v1.5")."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

EXPANSION = 4  # of a bottleneck's last convolution


class Block(nn.Module):
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1 with four times the channels; torchvision's names."""

    def __init__(self, channels_in: int, channels: int, stride: int, bottleneck: bool) -> None:
        super().__init__()
        out = channels * EXPANSION if bottleneck else channels
        first, strides = (1, (1, stride)) if bottleneck else (3, (stride, 1))
        self.conv1 = nn.Conv2d(channels_in, channels, first, strides[0], first // 2, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, strides[1], 1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        if bottleneck:
            self.conv3, self.bn3 = nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out)
        self.bottleneck = bottleneck
        self.downsample = None
        if stride != 1 or channels_in != out:
            self.downsample = nn.Sequential(nn.Conv2d(channels_in, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.bottleneck:
            y = self.bn3(self.conv3(F.relu(y)))
        return F.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    """Four stages of ``depths`` blocks with 64, 128, 256 and 512 channels; images (B, 3, H, W) to logits (B, 1000)."""

    def __init__(self, depths: Sequence[int], bottleneck: bool, classes: int = 1000) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        channels_in = 64
        for stage, depth in enumerate(depths):
            channels, blocks = 64 << stage, []
            for index in range(depth):
                blocks.append(Block(channels_in, channels, 2 if stage and not index else 1, bottleneck))
                channels_in = channels * EXPANSION if bottleneck else channels
            self.add_module(f"layer{stage + 1}", nn.Sequential(*blocks))
        self.stages = len(depths)
        self.fc = nn.Linear(channels_in, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(x))), 3, 2, 1)
        for stage in range(self.stages):
            x = self.get_submodule(f"layer{stage + 1}")(x)
        return self.fc(x.mean((2, 3)))
