"""Intermediate features: what submodules return while a model runs, and which of them are worth distilling.

Hooks are registered for one run and removed after it; no module is changed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
    """The one tensor that a module returned; None unless it was called once and returned real numbers."""
    if len(results) != 1:
        return None
    try:
        tensor = output_tensor(results[0])
    except BadInput:
        return None
    return tensor if tensor.is_floating_point() and tensor.dim() > 1 else None


@dataclass(frozen=True)
class _Candidate:
    """A module's output: its depth in layers with weights that ran up to it, and whether it is a block of several."""

    name: str
    depth: int
    block: bool


def choose_features(
    module: nn.Module, run: Callable[[nn.Module], Tensor], patterns: Sequence[str] = (AUTO,)
) -> list[str]:
    """Names of the modules whose outputs are distilled, in the order in which they run.

    "auto" takes three, evenly spaced by depth, from the blocks before the head (from single layers, too, where there
    are fewer blocks); patterns name modules themselves. ``run(module)`` computes outputs on a few samples. BadInput
    for a pattern that matches no module, or a module that is not called once or returns no real numbers.
    """
    with torch.no_grad():
        seen, outputs = _survey(module, run)
    if tuple(patterns) != (AUTO,):
        names = matching(patterns, [name for name, _ in module.named_modules() if name], "no module for features")
        for name in names:
            if feature([result for other, result, _ in seen if other == name]) is None:
                calls = sum(other == name for other, _, _ in seen)
                found = f"is called {calls} times" if calls != 1 else "returns no tensor (B, ...) of real numbers"
                raise BadInput(f"module {name!r} {found}: expected features of a module that is called once")
        return names
    return _spread(_candidates(module, seen, outputs))


def _survey(module: nn.Module, run: Callable[[nn.Module], Tensor]) -> tuple[list[tuple[str, Any, int]], Tensor]:
    """Every call of a submodule in the order in which they end (name, result, layers so far), and the outputs."""
    seen: list[tuple[str, Any, int]] = []
    layers = 0

    def see(call: Call) -> None:
        nonlocal layers
        layers += any(p.dim() > 1 for p in call.layer.parameters(recurse=False))
        seen.append((call.name, call.result, layers))

    with capture({name: child for name, child in module.named_modules() if name}, see):
        return seen, run(module)


def _candidates(module: nn.Module, seen: Sequence[tuple[str, Any, int]], outputs: Tensor) -> list[_Candidate]:
    """Modules called once before the last layer with weights, the outermost one of each depth."""
    last = seen[-1][2] if seen else 0
    found: dict[tuple[int, bool], _Candidate] = {}
    for name, _, depth in seen:
        tensor = feature([each for other, each, _ in seen if other == name])
        if tensor is None or tensor is outputs or len(tensor) != len(outputs) or not 0 < depth < last:
            continue
        block = any(True for _ in module.get_submodule(name).children())
        known = found.get((depth, block))
        if known is None or name.count(".") <= known.name.count("."):
            found[depth, block] = _Candidate(name, depth, block)
    blocks = [each for each in found.values() if each.block]
    return blocks if len(blocks) >= FEATURES else blocks + [c for c in found.values() if not c.block]


def _spread(candidates: Sequence[_Candidate]) -> list[str]:
    """Up to three of them, evenly spaced among their depths, the deepest included; blocks before layers."""
    best = {c.depth: c for c in sorted(candidates, key=lambda c: c.block)}
    depths = sorted(best)
    if not depths:
        raise BadInput("features: the model has no inner module that is called once: expected names of modules")
    count = min(FEATURES, len(depths))
    return [best[depths[round((k + 1) * len(depths) / count) - 1]].name for k in range(count)]


def variances(tensors: Sequence[Tensor]) -> list[float]:
    """Of each feature (B, ...): its variance over the samples, averaged over its elements; 1 where that is 0."""
    found = [float(t.double().var(0).mean()) if len(t) > 1 else 1.0 for t in tensors]
    return [value if value > 0 else 1.0 for value in found]
