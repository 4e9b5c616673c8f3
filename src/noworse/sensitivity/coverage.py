"""What hooks on modules see of a model, and what happens between modules where they see nothing."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

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
    model = copy.deepcopy(model).eval().requires_grad_(False)
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if not any(True for _ in module.children()):
            names.setdefault(module, []).append(name)
    calls = {name: 0 for each in names.values() for name in each}
    integers: set[str] = set()
    counts: dict[str, int] = {}
    mode = _Functions(counts)

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        mode.depth += 1
        tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        for name in names[module]:
            calls[name] += 1
            if not any(torch.is_floating_point(tensor) for tensor in tensors):
                integers.add(name)

    def leave(module: nn.Module, args: Any, result: Any) -> None:
        mode.depth -= 1

    for module in names:
        module.register_forward_pre_hook(enter, with_kwargs=True)
        module.register_forward_hook(leave)
    with torch.no_grad(), mode:
        loss(model, batch)
    owned = {id(p) for module in names for p in module.parameters()}
    loose = [name for name, p in model.named_parameters() if id(p) not in owned]
    return Coverage(calls, sorted(integers), [each for each in names.values() if len(each) > 1], loose, counts)
