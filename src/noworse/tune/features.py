"""Intermediate features: what submodules return while a model runs, and which of them are worth distilling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.model.patterns import matching
from noworse.survey.capture import Call, capture
from noworse.task.data import output_tensor

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
    found = [float(t.double().var(0).mean()) if len(t) > 1 else 1.0 for t in tensors]
    return [value if value > 0 else 1.0 for value in found]
