"""Loss and accuracy of classifiers, on batches whose last part are labels."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

Labelled = tuple[Tensor, Tensor]  # images (B, C, H, W) float32, labels (B,) int64


def loss(model: nn.Module, batch: Labelled) -> Tensor:
    """Cross-entropy of every image in nats, (B,)."""
    images, labels = batch
    return F.cross_entropy(model(images), labels, reduction="none")


def accuracy_percent(outputs: Tensor, batch: Sequence[Tensor]) -> Tensor:
    """Of every sample the share of labels that have the largest logit, in per cent: (B,), of logits (B, ..., K)."""
    right = outputs.argmax(-1) == batch[-1]
    return 100 * right.double().reshape(len(outputs), -1).mean(1)
