"""A detector like YOLOv5 (release 6): CSP backbone, pyramid pooling, top-down and bottom-up paths, three heads.

Layers are numbered and named as in the published checkpoints, so that their tensors load; the count of parameters is
theirs. Written from the published layer table; boxes, losses and suppression are not part of it. The outputs are the
raw predictions of all places together.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

ANCHORS = ((10, 13, 16, 30, 33, 23), (30, 61, 62, 45, 59, 119), (116, 90, 156, 198, 373, 326))  # pixels, by head
STRIDES = (8, 16, 32)
# layers that read something else than their predecessor: the heads' sources, and what a concatenation adds
JOINED = {12: 6, 16: 4, 19: 14, 22: 10}
HEADS = (17, 20, 23)


class Conv(nn.Module):
    """Convolution, batch norm, SiLU."""

    def __init__(self, channels_in: int, channels: int, kernel: int = 1, stride: int = 1, padding: int = -1) -> None:
        super().__init__()
        place = kernel // 2 if padding < 0 else padding
        self.conv = nn.Conv2d(channels_in, channels, kernel, stride, place, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.bn(self.conv(x)))


class Bottleneck(nn.Module):
    """1x1 and 3x3 convolution, with a shortcut where asked for."""

    def __init__(self, channels: int, shortcut: bool) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(channels, channels), Conv(channels, channels, 3)
        self.shortcut = shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.cv2(self.cv1(x))
        return x + y if self.shortcut else y


class C3(nn.Module):
    """A cross-stage partial block: bottlenecks on one half of the channels, the other half beside them."""

    def __init__(self, channels_in: int, channels: int, repeats: int, shortcut: bool = True) -> None:
        super().__init__()
        half = channels // 2
        self.cv1, self.cv2, self.cv3 = Conv(channels_in, half), Conv(channels_in, half), Conv(2 * half, channels)
        self.m = nn.Sequential(*[Bottleneck(half, shortcut) for _ in range(repeats)])

    def forward(self, x: Tensor) -> Tensor:
        return self.cv3(torch.cat((self.m(self.cv1(x)), self.cv2(x)), 1))


class SPPF(nn.Module):
    """Maxima over 5, 9 and 13 pixels beside the input, by pooling three times."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.cv1, self.cv2 = Conv(channels, channels // 2), Conv(2 * channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        pooled = [self.cv1(x)]
        for _ in range(3):
            pooled.append(F.max_pool2d(pooled[-1], 5, 1, 2))
        return self.cv2(torch.cat(pooled, 1))


class Detect(nn.Module):
    """One 1x1 convolution for each scale: box, objectness and classes of three anchors, (B, places, 5 + classes)."""

    def __init__(self, channels: tuple[int, ...], classes: int) -> None:
        super().__init__()
        self.outputs = classes + 5
        anchors = [[size / stride for size in sizes] for sizes, stride in zip(ANCHORS, STRIDES, strict=True)]
        self.register_buffer("anchors", torch.tensor(anchors).view(3, 3, 2))
        self.m = nn.ModuleList(nn.Conv2d(c, 3 * self.outputs, 1) for c in channels)

    def forward(self, features: list[Tensor]) -> Tensor:
        found = [head(x).flatten(2).unflatten(1, (3, -1)) for head, x in zip(self.m, features, strict=True)]
        return torch.cat([x.transpose(2, 3).flatten(1, 2) for x in found], 1)


class YOLOv5(nn.Module):
    """Images (B, 3, H, W), H and W multiples of 32, to predictions (B, places, 5 + classes)."""

    def __init__(self, depth: float, width: float, classes: int = 80) -> None:
        super().__init__()

        def repeats(count: int) -> int:
            return max(1, round(count * depth))

        c1, c2, c3, c4, c5 = (math.ceil(64 * 2**k * width / 8) * 8 for k in range(5))
        self.model = nn.ModuleList([
            Conv(3, c1, 6, 2, 2), Conv(c1, c2, 3, 2), C3(c2, c2, repeats(3)),
            Conv(c2, c3, 3, 2), C3(c3, c3, repeats(6)), Conv(c3, c4, 3, 2), C3(c4, c4, repeats(9)),
            Conv(c4, c5, 3, 2), C3(c5, c5, repeats(3)), SPPF(c5),
            Conv(c5, c4), nn.Upsample(scale_factor=2), nn.Identity(), C3(2 * c4, c4, repeats(3), False),
            Conv(c4, c3), nn.Upsample(scale_factor=2), nn.Identity(), C3(2 * c3, c3, repeats(3), False),
            Conv(c3, c3, 3, 2), nn.Identity(), C3(2 * c3, c4, repeats(3), False),
            Conv(c4, c4, 3, 2), nn.Identity(), C3(2 * c4, c5, repeats(3), False),
            Detect((c3, c4, c5), classes),
        ])  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        kept: dict[int, Tensor] = {}
        for number, layer in enumerate(self.model[:-1]):
            x = torch.cat((x, kept[JOINED[number]]), 1) if number in JOINED else layer(x)
            if number in HEADS or number in JOINED.values():
                kept[number] = x
        return self.model[-1]([kept[number] for number in HEADS])
