"""Loss and metric of image classifiers, on batches of images and labels."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Labelled = tuple[Tensor, Tensor]  # images (B, C, H, W) float32, labels (B,) int64


def loss(model: nn.Module, batch: Labelled) -> Tensor:
    """Cross-entropy of every image in nats, (B,)."""
    images, labels = batch
    return F.cross_entropy(model(images), labels, reduction="none")


@torch.no_grad()
def accuracy_percent(model: nn.Module, batches: Iterable[Labelled]) -> float:
    """Share of images whose largest logit is that of their label, in per cent."""
    right = total = 0
    for images, labels in batches:
        right += int((model(images).argmax(1) == labels).sum())
        total += len(labels)
    return 100 * right / total
