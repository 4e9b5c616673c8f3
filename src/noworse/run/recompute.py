"""Gradient checkpointing: blocks keep their inputs alone, and compute what backward needs a second time.

Blocks are the composite children of lists and sequences of modules, the outermost ones: residual blocks, transformer
layers. A sequence of single layers in such a place is one block. The blocks of our own copy of a model get a
``forward`` that recomputes; the caller's model is not touched.

Source: Chen et al., Training deep nets with sublinear memory cost (2016).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from noworse.errors import BadInput

CONTAINERS = (nn.Sequential, nn.ModuleList)


def _is_leaf(module: nn.Module) -> bool:
    return not any(True for _ in module.children())


def _is_block(child: nn.Module) -> bool:
    """A composite module; a plain container only where there is nothing but single layers in it."""
    if _is_leaf(child) or type(child) is nn.ModuleList:
        return False
    return type(child) is not nn.Sequential or all(map(_is_leaf, child.children()))


def blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The outermost blocks of a module, in its order."""
    for child in module.children():
        if isinstance(module, CONTAINERS) and _is_block(child):
            yield child
        else:
            yield from blocks(child)


def recompute_blocks(module: nn.Module) -> int:
    """Make every block of ``module`` recompute in backward; returns their number, BadInput where there are none."""
    found = list(blocks(module))
    if not found:
        raise BadInput("checkpointing found no blocks: expected composite children of a ModuleList or a Sequential")
    for block in dict.fromkeys(found):
        block.forward = _recomputing(block.forward)
    return len(found)


def _recomputing(forward: Callable[..., Any]) -> Callable[..., Any]:
    def run(*arguments: Any, **named: Any) -> Any:
        if not torch.is_grad_enabled():
            return forward(*arguments, **named)
        return checkpoint(forward, *arguments, use_reentrant=False, **named)

    return run
