"""Two models over the same batches: losses of each sample in pairs, and how far their predictions are apart."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.errors import BadInput
from noworse.survey.capture import capture
from noworse.task import data
from noworse.task.data import Batch

Loss = Callable[[nn.Module, Any], Tensor]
Forward = Callable[[nn.Module, Any], Tensor]

CHUNK = 1 << 22  # logits contrasted at a time: 32 MB each in float64


@dataclass(frozen=True)
class Comparison:
    """Per-sample arrays (N,) over all batches; ``changed`` and ``kl`` are None where the outputs are no logits."""

    original: NDArray[np.float64]  # losses of the original
    compressed: NDArray[np.float64]  # losses of the candidate
    changed: NDArray[np.float64] | None  # share of positions (1 of them for (B, K) logits) whose argmax differs
    kl: NDArray[np.float64] | None  # KL(original || candidate) in nats, mean over positions


@contextmanager
def evaluating(*models: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for model in models for module in model.modules()]
    try:
        for model in models:
            model.eval()
        with torch.no_grad():
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def compare(
    original: nn.Module,
    candidate: nn.Module,
    loss: Loss,
    batches: Iterable[Batch],
    forward: Forward | None = None,
    distill: str = "kl",
) -> Comparison:
    """Losses of two models on the same batches, in eval mode, with one forward pass per model and batch where possible.

    Outputs are those of the model's own call inside ``loss``. Where ``forward`` is given, or ``loss`` calls the model
    not at all or several times, a further pass of ``forward`` (default ``noworse.task.data.forward``) yields them. Only
    with ``distill="kl"`` outputs are logits; those without a last dimension of at least 2 classes are left out.
    Raises BadInput for a loss that is not one finite number per sample, naming found and expected.
    """
    losses: tuple[list[Tensor], list[Tensor]] = ([], [])
    changed: list[Tensor] = []
    divergence: list[Tensor] = []
    device = _device(original)
    wanted = distill == "kl"
    with evaluating(original, candidate):
        for index, batch in enumerate(batches):
            batch = data.to_device(batch, device)
            where = f"batch {index}"
            first, logits = observe(original, loss, batch, forward, wanted, f"the original model in {where}")
            second, other = observe(candidate, loss, batch, forward, wanted, f"the compressed model in {where}")
            losses[0].append(first)
            losses[1].append(second)
            if wanted and logits is not None and other is not None and logits.shape == other.shape:
                flips, kl = contrast(logits, other)
                changed.append(flips)
                divergence.append(kl)
    complete = bool(changed) and len(changed) == len(losses[0])
    return Comparison(
        _array(losses[0]),
        _array(losses[1]),
        _array(changed) if complete else None,
        _array(divergence) if complete else None,
    )


def mean_loss(model: nn.Module, loss: Loss, batches: Iterable[Batch]) -> float:
    """Mean per-sample loss of one model in eval mode; BadInput as in ``compare``, or where there are no batches."""
    device = _device(model)
    with evaluating(model):
        parts = [
            observe(model, loss, data.to_device(batch, device), None, False, f"the model in batch {index}")[0]
            for index, batch in enumerate(batches)
        ]
    if not parts:
        raise BadInput("no batches to compute a mean loss on: expected at least one")
    return float(_array(parts).mean())


def observe(
    model: nn.Module, loss: Loss, batch: Batch, forward: Forward | None, wanted: bool, where: str
) -> tuple[Tensor, Tensor | None]:
    """Per-sample losses (B,) and, if wanted and there are any, logits (B, ..., K) of a model on one batch."""
    seen: list[Any] = []
    with capture({"": model}, lambda call: seen.append(call.result)):
        losses = check_losses(loss(model, batch), data.batch_size(batch), where)
    if not wanted:
        return losses, None
    if forward is None and len(seen) == 1:
        return losses, _logits(seen[0], len(losses))
    try:
        result = (forward or data.forward)(model, batch)
    except (TypeError, RuntimeError) as error:  # also NotImplementedError
        if forward is not None:
            raise
        raise BadInput(
            f"the loss does not call the model exactly once, and the model cannot be called on its inputs ({error}): "
            "expected forward=, or distill='mse' where outputs are no logits"
        ) from error
    return losses, _logits(result, len(losses))


def _logits(result: Any, samples: int) -> Tensor | None:
    tensor = data.output_tensor(result)
    usable = tensor.is_floating_point() and tensor.ndim >= 2 and len(tensor) == samples and tensor.shape[-1] >= 2
    return tensor if usable and tensor.numel() else None


def check_losses(losses: Any, samples: int, where: str) -> Tensor:
    """The losses (B,) without their graph; BadInput naming ``where`` unless they are one finite number per sample."""
    expected = f"expected one loss per sample, shape ({samples},)"
    if not isinstance(losses, Tensor):
        raise BadInput(f"loss of {where} is {type(losses).__name__}: {expected}")
    if losses.ndim == 0:
        raise BadInput(f"loss of {where} is a single number: {expected} (reduction='none')")
    if losses.shape != (samples,):
        raise BadInput(f"loss of {where} has shape {tuple(losses.shape)}: {expected}")
    if losses.is_complex():
        raise BadInput(f"loss of {where} is {losses.dtype}: expected real numbers")
    bad = samples - int(torch.isfinite(losses).sum())
    if bad:
        raise BadInput(f"loss of {where} is NaN or infinite for {bad} of {samples} samples: expected finite losses")
    return losses.detach()


def contrast(original: Tensor, candidate: Tensor) -> tuple[Tensor, Tensor]:
    """Share of positions with another argmax and mean KL(original || candidate) in nats, per sample: both (B,)."""
    rows = max(1, CHUNK // original[0].numel())
    changed, divergence = [], []
    for a, b in zip(torch.split(original, rows), torch.split(candidate, rows), strict=True):
        differs = (a.argmax(-1) != b.argmax(-1)).double()  # (B, ...)
        log_p, log_q = F.log_softmax(a.double(), -1), F.log_softmax(b.double(), -1)
        terms = torch.where(log_p > -torch.inf, log_p.exp() * (log_p - log_q), 0.0)  # masked classes count nothing
        kl = terms.sum(-1).clamp_min(0.0)  # rounding alone makes it negative
        changed.append(differs.reshape(len(a), -1).mean(1))
        divergence.append(kl.reshape(len(a), -1).mean(1))
    return torch.cat(changed), torch.cat(divergence)


def _array(parts: list[Tensor]) -> NDArray[np.float64]:
    return torch.cat([part.double().cpu() for part in parts]).numpy() if parts else np.empty(0)


def _device(model: nn.Module) -> torch.device:
    for tensor in (*model.parameters(), *model.buffers()):
        return tensor.device
    return torch.device("cpu")
