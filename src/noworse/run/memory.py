"""Less memory: freed blocks go back to the operating system, and layers keep their inputs alone for backward.

Source: Chen et al., Training deep nets with sublinear memory cost (2016), the latter.
"""

import ctypes
import functools
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from noworse.errors import BadInput


def trim() -> None:
    """Give freed memory back to the system: glibc keeps blocks below a growing threshold (elsewhere: nothing)."""
    if sys.platform == "linux":
        give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have no such function
        if give_back is not None:
            give_back(0)


def _is_leaf(module: nn.Module) -> bool:
    return not any(True for _ in module.children())


def _is_block(child: nn.Module) -> bool:
    """A composite module; a plain container only where there is nothing but single layers in it."""
    if _is_leaf(child) or type(child) is nn.ModuleList:
        return False
    return type(child) is not nn.Sequential or all(map(_is_leaf, child.children()))


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield the blocks of a module, in its order: the outermost composite children of lists and sequences.

    They are residual blocks and transformer layers. A sequence of single layers in such a place is one block.
    """
    for child in module.children():
        if isinstance(module, (nn.Sequential, nn.ModuleList)) and _is_block(child):
            yield child
        else:
            yield from blocks(child)


def recompute_blocks(module: nn.Module) -> int:
    """Make every block of ``module`` recompute in backward; return their number, BadInput where there are none."""
    found = list(blocks(module))
    if not found:
        raise BadInput("checkpointing found no blocks: expected composite children of a ModuleList or a Sequential")
    for block in dict.fromkeys(found):
        block.forward = functools.partial(_recompute, block.forward)
    return len(found)


def _recompute(forward: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*arguments, **named)
    return checkpoint(forward, *arguments, use_reentrant=False, **named)
