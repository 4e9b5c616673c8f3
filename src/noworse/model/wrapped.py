"""What stands around modules and in them: wrappers of torch that are looked through, and what cannot be worked on."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from types import FunctionType
from typing import TypeVar

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils import _pytree as pytree

from noworse.errors import BadInput

PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
PREFIXES = ("_orig_mod.", "module.")  # of the names in the state of a compiled or parallel module
HOOKS = ("_forward_hooks", "_forward_pre_hooks")
T = TypeVar("T")


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside of torch.compile, DataParallel and DistributedDataParallel, others as they are."""
    while True:
        inner = module.module if isinstance(module, PARALLEL) else getattr(module, "_orig_mod", None)
        if inner is None:
            return module
        module = inner


def without_prefix(tensors: Mapping[str, T], expected: Collection[str]) -> dict[str, T]:
    """Return tensors by the names ``expected`` where theirs are those of the same module inside of wrappers."""
    found = dict(tensors)
    while found and not found.keys() & set(expected):
        prefix = next((p for p in PREFIXES if all(name.startswith(p) for name in found)), None)
        if prefix is None:
            break
        found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found


def require_whole(module: nn.Module, what: str) -> None:
    """Raise BadInput, naming a part, unless all of a module is Python that runs, with tensors that hold numbers."""
    require_numbers(module, what)
    if "eval" in vars(module):  # as torch.export leaves its programs
        raise BadInput("the model is an exported program: expected the nn.Module that it was made from")
    for name, part in module.named_modules():
        if isinstance(part, torch.jit.ScriptModule):
            raise BadInput(f"module {name!r} is scripted or traced: expected the nn.Module that it was made from")
    require_own_functions(unwrapped(module))


def require_own_functions(module: nn.Module) -> None:
    """Raise BadInput where a function kept in a part of a module refers to a part: in copies, to the original's."""
    parts = {id(part): name for name, part in module.named_modules()}
    parts |= {id(tensor): name for name, tensor in (*module.named_parameters(), *module.named_buffers())}
    for name, part in module.named_modules():
        kept = {key: value for key, value in vars(part).items() if key in HOOKS or not key.startswith("_")}
        for function in (leaf for leaf in pytree.tree_leaves(kept) if isinstance(leaf, FunctionType)):
            for value in _reached(function):
                if id(value) in parts:
                    found = f"module {name!r} holds the function {function.__qualname__!r}"
                    expected = "a method, or a function of the module that it is called with"
                    raise BadInput(f"{found}, which uses {parts[id(value)]!r} of this very model: expected {expected}")


def _reached(function: FunctionType, depth: int = 3) -> Iterator[object]:
    """What a function refers to by its closure or by global names, and what methods and functions among it do."""
    names = inspect.getclosurevars(function)
    for value in (*names.nonlocals.values(), *names.globals.values()):
        yield getattr(value, "__self__", value)
        if isinstance(value, FunctionType) and depth:
            yield from _reached(value, depth - 1)


def require_numbers(module: nn.Module, what: str) -> None:
    """Raise BadInput for what is no module, or has tensors without memory: of lazy modules, or on the device meta."""
    if not isinstance(module, nn.Module):
        made = f"the class {module.__name__}" if isinstance(module, type) else type(module).__name__
        raise BadInput(f"{what} is {made}: expected an object that is a torch.nn.Module")
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if is_lazy(tensor):
            raise BadInput(f"{name!r} of a lazy module has no shape yet: expected the model to have been called once")
        if tensor.device.type == "meta":
            raise BadInput(f"{name!r} has no numbers (device meta): expected loaded weights, or to_empty to load some")


@contextmanager
def eager() -> Iterator[None]:
    """Run what torch.compile made as it was written, in a block: hooks and copies would be compiled again and again."""
    if "torch._dynamo" not in sys.modules or not hasattr(torch.compiler, "set_stance"):
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield
