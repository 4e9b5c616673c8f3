"""What tuning lowers besides the rate: a weighted sum of distillation and, where there are labels, the task's own loss.

    D = a·D_out(outputs, original outputs) + b·mean over k of ‖f_k − f_k'‖² / (n_k·Var f_k') + c·ℓ(outputs, labels)

D_out is one of task/distances.py, f_k are intermediate features, what submodules return, primes are the original's, and
ℓ is the loss of the task on calibration batches with labels.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.model.device import double
from noworse.model.tensors import matching
from noworse.survey.capture import Call, capture, watching
from noworse.task import data
from noworse.task.data import Batch, output_tensor
from noworse.task.distances import Distance
from noworse.task.task import Loss, check_losses

AUTO = "auto"
FEATURES = 3  # chosen automatically: of a net of stages, the last ones before its head


def feature(results: Sequence[Any]) -> Tensor | None:
    """Return the one tensor that a module returned; None unless it was called once and returned real numbers."""
    if len(results) != 1:
        return None
    try:
        tensor = output_tensor(results[0])
    except BadInput:
        return None
    return tensor if tensor.is_floating_point() and tensor.dim() > 1 else None


def choose_features(
    module: nn.Module, run: Callable[[nn.Module], Tensor], patterns: Sequence[str] = (AUTO,)
) -> list[str]:
    """Return the names of the modules whose outputs are distilled, in the order in which they run.

    "auto" takes three, evenly spaced by depth, from the blocks before the head (from single layers, too, where there
    are fewer blocks); patterns name modules themselves. ``run(module)`` computes outputs on a few samples. BadInput
    for a pattern that matches no module, or a module that is not called once or returns no real numbers.
    """
    results: dict[str, list[Any]] = {}
    depths: dict[str, int] = {}  # layers with weights that ran so far, at the last call of each

    def see(call: Call) -> None:
        weights = any(p.dim() > 1 for p in call.layer.parameters(recurse=False))
        depths[call.name] = max(depths.values(), default=0) + weights
        results.setdefault(call.name, []).append(call.result)

    inner = {name: child for name, child in module.named_modules() if name}
    with torch.no_grad(), capture(inner, see):
        outputs = run(module)
    if tuple(patterns) == (AUTO,):
        return _spread(_candidates(module, results, depths, outputs))
    names = matching(patterns, list(inner), "no module for features")
    for name in names:
        calls = results.get(name, [])
        if feature(calls) is None:
            found = f"is called {len(calls)} times" if len(calls) != 1 else "returns no tensor (B, ...) of real numbers"
            raise BadInput(f"module {name!r} {found}: expected features of a module that is called once")
    return names


def _candidates(
    module: nn.Module, results: Mapping[str, Sequence[Any]], depths: Mapping[str, int], outputs: Tensor
) -> dict[int, str]:
    """By depth the outermost module called once before the last layer with weights; blocks before single layers."""
    last = max(depths.values(), default=0)
    found: dict[bool, dict[int, str]] = {True: {}, False: {}}
    for name, depth in depths.items():
        tensor = feature(results[name])
        if tensor is None or tensor is outputs or len(tensor) != len(outputs) or not 0 < depth < last:
            continue
        known = found[any(True for _ in module.get_submodule(name).children())]
        if name.count(".") <= known.get(depth, name).count("."):
            known[depth] = name
    return found[True] if len(found[True]) >= FEATURES else found[False] | found[True]


def _spread(candidates: Mapping[int, str]) -> list[str]:
    """Up to three of them, evenly spaced among their depths, the deepest included."""
    depths = sorted(candidates)
    if not depths:
        raise BadInput("features: the model has no inner module that is called once: expected names of modules")
    count = min(FEATURES, len(depths))
    return [candidates[depths[round((k + 1) * len(depths) / count) - 1]] for k in range(count)]


def variances(tensors: Sequence[Tensor]) -> list[float]:
    """Return the variance of each feature (B, ...) over samples, averaged over its elements; 1 where that is 0."""
    found = [float(double(t).var(0).mean()) if len(t) > 1 else 1.0 for t in tensors]
    return [value if value > 0 else 1.0 for value in found]


class Response(NamedTuple):
    """What one model made of one batch."""

    outputs: Tensor  # (B, ..., K)
    features: tuple[Tensor, ...] = ()  # (B, ...)
    losses: Tensor | None = None  # (B,), where asked for


@dataclass(frozen=True)
class Features:
    """Submodules by name, and the variance of what each returns in the original."""

    names: Sequence[str] = ()
    variances: Sequence[float] = ()


@dataclass(frozen=True)
class Weights:
    """The weights a, b and c of the parts of the objective."""

    outputs: float = 1.0
    features: float = 0.0
    labels: float = 0.0


@dataclass(eq=False)
class Objective:
    """The per-sample loss of tuning.

    ``forward(module, batch)`` gives outputs to distil; ``loss`` is the task's own, needed for a weight of labels alone.
    With ``own_call`` outputs are those of the model's one call within ``loss``, and ``forward`` is not asked for them.
    ``cast()`` surrounds all that models compute (mixed precision); what comes out is float32.
    """

    distance: Distance
    forward: Callable[[nn.Module, Batch], Tensor]
    weights: Weights = Weights()
    features: Features = Features()
    loss: Loss | None = None
    own_call: bool = False
    cast: Callable[[], AbstractContextManager[object]] = nullcontext

    def observe(self, module: nn.Module, batch: Batch, labelled: bool = False) -> Response:
        """Return outputs and features of a model on a batch, in one pass; with ``labelled`` the task's losses too."""
        losses: Any = None
        with self.cast(), watching(module, [*self.features.names, ""]) as calls:
            if labelled and self.loss is not None:
                losses = self.loss(module, batch)
            if losses is not None and self.own_call and len(calls.get("", ())) == 1:
                outputs = data.output_tensor(calls[""][0])
            else:
                calls.clear()
                outputs = self.forward(module, batch)
        found = [feature(calls.get(name, ())) for name in self.features.names]
        missing = [name for name, tensor in zip(self.features.names, found, strict=True) if tensor is None]
        if missing:
            raise BadInput(f"module {missing[0]!r} was not called once on a batch of calib: expected features of it")
        features = tuple(tensor.float() for tensor in found if tensor is not None)
        return Response(outputs.float(), features, None if losses is None else losses.float())

    def __call__(self, module: nn.Module, batch: Batch, original: Response) -> Tensor:
        """Return the per-sample loss (B,) of ``module`` on a batch, of which the original made ``original``."""
        seen = self.observe(module, batch, self.weights.labels > 0)
        total = self.weights.outputs * self.distance(seen.outputs, original.outputs)
        if self.features.names:
            parts = [
                (found - wanted).square().flatten(1).mean(1) / variance
                for found, wanted, variance in zip(
                    seen.features, original.features, self.features.variances, strict=True
                )
            ]
            total = total + self.weights.features * torch.stack(parts).mean(0)
        return total if seen.losses is None else total + self.weights.labels * seen.losses

    def judged(self, module: nn.Module, batch: Batch, original: Response) -> Tensor:
        """Return the task's losses (B,) at the labels where these have a weight, else the losses of tuning."""
        losses = self.observe(module, batch, True).losses if self.weights.labels > 0 else None
        return self(module, batch, original) if losses is None else losses

    def check(self, module: nn.Module, batch: Batch) -> None:
        """Raise BadInput where labels have a weight and the task's loss cannot be had on this batch of calib."""
        if self.weights.labels == 0 or self.loss is None:
            return
        try:
            losses = self.loss(module, batch)
        except Exception as error:  # the caller's code, on a batch that may lack what it needs
            found = f"the task's loss fails on calib ({type(error).__name__}: {error})"
            raise BadInput(f"{found}: expected batches with labels where label_weight is set") from error
        check_losses(losses, data.batch_size(batch), "calib, which label_weight needs,")
        if not losses.requires_grad:
            raise BadInput("the task's loss has no gradient: expected a differentiable one where label_weight is set")
