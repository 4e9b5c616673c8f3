"""What hooks on modules see of a model, and what happens between modules where they see nothing."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from noworse.model.hooks import Functions, floating
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


def coverage(model: nn.Module, loss: Loss, batch: Batch) -> Coverage:
    """Return what ``loss(model, batch)`` calls, in eval mode on a copy of the model; what the loss does counts too."""
    model = twin(model).eval().requires_grad_(False)
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if not any(True for _ in module.children()):
            names.setdefault(module, []).append(name)
    integers: set[str] = set()
    functions: Counter[str] = Counter()
    running: list[str] = []  # innermost modules

    def count(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = function(*args, **kwargs)
        name = getattr(function, "__name__", str(function)).strip("_")
        if not running and name != "get" and any(map(floating, pytree.tree_leaves(result))):
            functions[name] += 1
        return result

    def enter(call: Call) -> None:
        running.append(call.name)
        if not any(map(floating, pytree.tree_leaves((call.args, call.kwargs)))):
            integers.update(names[call.layer])

    def leave(call: Call) -> None:
        running.pop()

    innermost = {each[0]: module for module, each in names.items()}
    with capture(innermost, leave, enter=enter) as seen, torch.no_grad(), Functions(count):
        loss(model, batch)
    calls = {name: seen.calls[each[0]] for each in names.values() for name in each}
    owned = {id(p) for module in names for p in module.parameters()}
    loose = [name for name, p in model.named_parameters() if id(p) not in owned]
    shared = [each for each in names.values() if len(each) > 1]
    return Coverage(calls, sorted(integers), shared, loose, dict(functions))
