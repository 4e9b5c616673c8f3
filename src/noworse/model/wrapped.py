"""What stands around modules and in them: wrappers of torch that are looked through, and what cannot be worked on."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeVar

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from noworse.errors import BadInput

PARALLEL = (nn.DataParallel, nn.parallel.DistributedDataParallel)
PREFIXES = ("_orig_mod.", "module.")  # of the names in the state of a compiled or parallel module
T = TypeVar("T")


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the module inside of torch.compile, DataParallel and DistributedDataParallel, others as they are."""
    while True:
        inner = module.module if isinstance(module, PARALLEL) else module._modules.get("_orig_mod")
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
