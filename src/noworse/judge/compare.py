"""Two models over the same batches: losses of each sample in pairs, and how far their predictions are apart."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.judge.original import LossesAndLogits, Observer, evaluating
from noworse.task.data import Batch
from noworse.task.distances import are_logits
from noworse.task.task import Forward, Loss

CHUNK = 1 << 22  # logits contrasted at a time: 32 MB each in float64


@dataclass(frozen=True)
class Comparison:
    """Per-sample arrays (N,) over all batches; ``changed`` and ``kl`` are None where the outputs are no logits."""

    original: NDArray[np.float64]  # losses of the original
    compressed: NDArray[np.float64]  # losses of the candidate
    changed: NDArray[np.float64] | None = None  # share of positions (1 for (B, K) logits) whose argmax differs
    kl: NDArray[np.float64] | None = None  # KL(original || candidate) in nats, mean over positions


def compare(
    original: nn.Module,
    candidate: nn.Module,
    loss: Loss,
    batches: Iterable[Batch],
    forward: Forward | None = None,
    distill: str = "kl",
) -> Comparison:
    """Compare two models on the same batches, in eval mode, with one forward pass per model and batch where possible.

    Outputs are those of the model's own call inside ``loss``. Where ``forward`` is given, or ``loss`` calls the model
    not at all or several times, a further pass of ``forward`` (default ``noworse.task.data.forward``) yields them.
    Predictions are compared where outputs are logits, as ``distill="kl"`` says, of at least 2 classes. Raises BadInput
    for a loss that is not one finite number per sample, naming found and expected.
    """
    wanted = are_logits(distill)
    with evaluating(original):
        first = Observer(original, loss, forward, wanted, "the original model")
        return paired(first, Observer(candidate, loss, forward, wanted, "the compressed model"), batches)


def paired(
    original: Callable[[int, Batch], LossesAndLogits], candidate: Observer, batches: Iterable[Batch]
) -> Comparison:
    """Compare a model with what the original (an ``Original`` or an ``Observer``) made of the same batches."""
    losses: list[tuple[Tensor, Tensor]] = []
    apart: list[tuple[Tensor, Tensor]] = []
    with evaluating(candidate.model):
        for index, batch in enumerate(batches):
            (first, logits), (second, other) = original(index, batch), candidate(index, batch)
            losses.append((first, second))
            if logits is not None and other is not None and logits.shape == other.shape:
                apart.append(contrast(logits, other))
    if not losses:
        return Comparison(np.empty(0), np.empty(0))
    return Comparison(*_columns(losses), *(_columns(apart) if len(apart) == len(losses) else ()))


def contrast(original: Tensor, candidate: Tensor) -> tuple[Tensor, Tensor]:
    """Return share of positions with another argmax and mean KL(original || candidate) in nats, per sample: both (B,).

    Logits are (B, ..., K).
    """
    rows = max(1, CHUNK // original[0].numel())
    changed, divergence = [], []
    for a, b in zip(torch.split(original, rows), torch.split(candidate, rows), strict=True):
        log_p, log_q = F.log_softmax(a.double(), -1), F.log_softmax(b.double(), -1)
        terms = torch.where(log_p > -torch.inf, log_p.exp() * (log_p - log_q), 0.0)  # masked classes count nothing
        kl = terms.sum(-1).clamp_min(0.0)  # rounding alone makes it negative
        changed.append((a.argmax(-1) != b.argmax(-1)).double().reshape(len(a), -1).mean(1))
        divergence.append(kl.reshape(len(a), -1).mean(1))
    return torch.cat(changed), torch.cat(divergence)


def _columns(rows: list[tuple[Tensor, Tensor]]) -> list[NDArray[np.float64]]:
    return [torch.cat([part.double().cpu() for part in column]).numpy() for column in zip(*rows, strict=True)]
