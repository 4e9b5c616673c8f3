"""Hooks on modules: how long they live, what the first tensor is that they see, and how they pass to a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch.utils.hooks import RemovableHandle

Given = tuple[tuple[Any, ...], dict[str, Any]]  # arguments of a call by position, and by keyword
# the names, in any module, of the hooks that act in a call and in its backward pass
_HOOKS = [f"_{way}{kind}hooks{more}" for way, kind, more in (
    *(("forward_", kind, more) for kind in ("", "pre_") for more in ("", "_with_kwargs")),
    ("forward_", "", "_always_called"), ("backward_", "", ""), ("backward_", "pre_", ""),
)]  # fmt: skip


@contextmanager
def removing(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Remove hooks at the end of the block, whatever happens in it."""
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield


def floating(value: object) -> bool:
    """Whether something is a tensor of real numbers."""
    return isinstance(value, Tensor) and value.is_floating_point()


def first_tensor(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """The first tensor among the arguments of a call, by position, by keyword or inside of others; None without any."""
    if args and isinstance(args[0], Tensor):
        return args[0]
    return next((leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)), None)


def with_first(args: tuple[Any, ...], kwargs: dict[str, Any], change: Callable[[Tensor], Tensor]) -> Given | None:
    """The arguments of a call with the first tensor of real numbers among them changed; None if there is none."""
    if args and floating(args[0]):
        return (change(args[0]), *args[1:]), kwargs
    leaves, structure = pytree.tree_flatten((args, kwargs))
    place = next((i for i, leaf in enumerate(leaves) if floating(leaf)), None)
    if place is None:
        return None
    leaves[place] = change(leaves[place])
    given: Given = pytree.tree_unflatten(leaves, structure)
    return given


def hand_over(old: nn.Module, new: nn.Module) -> None:
    """Give ``new`` the hooks of ``old``, which it stands for from now on, in place of its own."""
    for name in _HOOKS:
        getattr(new, name).clear()
        getattr(new, name).update(getattr(old, name))
    new._is_full_backward_hook = old._is_full_backward_hook
