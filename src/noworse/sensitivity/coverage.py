"""What hooks on modules see of a model, and what happens between modules where they see nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from noworse.model.tensors import twin
from noworse.survey.capture import Call, capture
from noworse.task.data import Batch
from noworse.task.task import Loss


@dataclass(frozen=True)
class Coverage:
    """What one run of the loss on a batch calls; innermost modules go by all of their names."""

    calls: dict[str, int]  # of every innermost module; 0 for those never called
    integers: list[str]  # modules that are fed no floating-point tensor, as embeddings
    shared: list[list[str]]  # names of one and the same module
    loose: list[str]  # parameters of no innermost module, which other code reads
    functions: dict[str, int]  # torch functions called outside of innermost modules, and how often


class _Functions(TorchFunctionMode):
    """Counts functions of tensors while no innermost module runs."""

    def __init__(self, counts: dict[str, int]) -> None:
        super().__init__()
        self.counts, self.depth = counts, 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", str(func)).strip("_")
        computes = name != "get" and any(
            isinstance(leaf, Tensor) and leaf.is_floating_point() for leaf in pytree.tree_leaves(result)
        )
        if not self.depth and computes:
            self.counts[name] = self.counts.get(name, 0) + 1
        return result


def coverage(model: nn.Module, loss: Loss, batch: Batch) -> Coverage:
    """What ``loss(model, batch)`` calls, in eval mode on a copy of the model; what the loss itself does counts too."""
    model = twin(model).eval().requires_grad_(False)
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if not any(True for _ in module.children()):
            names.setdefault(module, []).append(name)
    integers: set[str] = set()
    counts: dict[str, int] = {}
    mode = _Functions(counts)

    def enter(call: Call) -> None:
        mode.depth += 1
        tensors = [leaf for leaf in pytree.tree_leaves((call.args, call.kwargs)) if isinstance(leaf, Tensor)]
        if not any(map(torch.is_floating_point, tensors)):
            integers.update(names[call.layer])

    def leave(call: Call) -> None:
        mode.depth -= 1

    innermost = {each[0]: module for module, each in names.items()}
    with capture(innermost, leave, enter=enter) as seen, torch.no_grad(), mode:
        loss(model, batch)
    calls = {name: seen.calls[each[0]] for each in names.values() for name in each}
    owned = {id(p) for module in names for p in module.parameters()}
    loose = [name for name, p in model.named_parameters() if id(p) not in owned]
    return Coverage(calls, sorted(integers), [each for each in names.values() if len(each) > 1], loose, counts)
