"""Hooks on modules and functions: how long they live, what tensors they see, and how they pass to a stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
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
    """Return whether something is a tensor of real numbers."""
    return isinstance(value, Tensor) and value.is_floating_point()


def first_tensor(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor | None:
    """Return the first tensor among the arguments of a call, or inside of one of them; None without any."""
    return next((leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)), None)


def with_first(args: tuple[Any, ...], kwargs: dict[str, Any], change: Callable[[Tensor], Tensor]) -> Given | None:
    """Return the arguments of a call with the first tensor of real numbers among them changed; None without any."""
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


def thawed() -> Functions:
    """Return a block in which gradients pass through what is detached, or computed under ``no_grad``."""

    def call(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = getattr(function, "__name__", "")
        if name == "_set_grad_enabled":
            return None
        return args[0] if name == "detach" else function(*args, **kwargs)

    return Functions(call)


class Functions(TorchFunctionMode):
    """In its block ``call(function, args, kwargs)`` runs in place of every function of tensors."""

    def __init__(self, call: Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]) -> None:
        super().__init__()
        self.call = call

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        return self.call(func, args, kwargs or {})
