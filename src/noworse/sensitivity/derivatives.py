"""Derivatives of many values along one number t, at t = 0: in forward mode, or by two backward passes.

Forward mode gives the derivatives of all values at once, at the price of one more pass. Operations that torch knows no
forward derivative of, as products of sparse matrices, usually have a backward pass that can be differentiated. That is
enough: with a probe u for each value y, s(u) = ∂⟨u, y⟩/∂t is linear in u, and ∂s/∂u is dy/dt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.func import jvp
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils import _pytree as pytree

from noworse.errors import BadInput

T = TypeVar("T")


def along(function: Callable[[Tensor], T], dtype: torch.dtype) -> T:
    """d/dt of everything that ``function(t)`` returns; BadInput where torch has no such derivative."""
    zero = torch.zeros((), dtype=dtype)
    return _differentiable(lambda: _forward(function, zero), lambda: _backward(function, zero.requires_grad_()))


def second_along(function: Callable[[Tensor], Tensor], dtype: torch.dtype) -> Tensor:
    """d²/dt² of the values of ``function(t)``, any shape."""
    zero = torch.zeros((), dtype=dtype)
    return _differentiable(
        lambda: _forward(lambda t: _forward(function, t), zero),
        lambda: _backward(lambda t: _backward(function, t), zero.requires_grad_()),
    )


def _forward(function: Callable[[Tensor], T], t: Tensor) -> T:
    derivative: T = jvp(function, (t,), (torch.ones_like(t),))[1]
    return derivative


def _backward(function: Callable[[Tensor], T], t: Tensor) -> T:
    derivative: T = pytree.tree_map(lambda y: _slope(y, t), function(t))
    return derivative


def _slope(values: Tensor, t: Tensor) -> Tensor:
    """dy/dt of values y, with its graph; a backward pass that ends in a constant would hide what it depends on."""
    if values.requires_grad:
        probe = torch.ones_like(values, requires_grad=True)
        (total,) = torch.autograd.grad(values, t, probe, create_graph=True, allow_unused=True)
        if total is not None:
            return torch.autograd.grad(total, probe, create_graph=True)[0]
    return torch.zeros_like(values)


def _differentiable(forward: Callable[[], T], backward: Callable[[], T]) -> T:
    """What ``forward`` gives, or ``backward`` where forward mode fails.

    It does with NotImplementedError, which is a RuntimeError, of operations, and RuntimeError of custom functions. What
    is wrong with the model itself fails in both, and is told.
    """
    with _plain_attention(), _PlainNorms():
        with suppress(RuntimeError):
            return forward()
        try:
            return pytree.tree_map(torch.Tensor.detach, backward())  # type: ignore[no-any-return]
        except RuntimeError as error:
            reason = str(error).splitlines()[0][:200]
            message = f"no derivatives of the model: {reason}; expected kind='divergence', 'fisher' or 'loss'"
            raise BadInput(message) from error


class _PlainNorms(TorchFunctionMode):
    """Layer and group norms in elementary operations.

    Of the fused ones torch knows no second derivative: it takes mean and deviation for constants, silently
    (pytorch/pytorch#196700, #175754).
    """

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        plain = PLAIN.get(func)
        return (plain or func)(*args, **(kwargs or {}))


def _layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *unused: object,
) -> Tensor:
    normal = _normalised(input, tuple(range(-len(normalized_shape), 0)), eps)
    normal = normal if weight is None else normal * weight
    return normal if bias is None else normal + bias


def _group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
    *unused: object,
) -> Tensor:
    groups = input.reshape(len(input), num_groups, -1)
    normal = _normalised(groups, (-1,), eps).reshape(input.shape)
    channels = (-1, *[1] * (input.ndim - 2))
    normal = normal if weight is None else normal * weight.reshape(channels)
    return normal if bias is None else normal + bias.reshape(channels)


def _normalised(values: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centred = values - values.mean(dims, keepdim=True)
    return centred * (centred.square().mean(dims, keepdim=True) + eps).rsqrt()


PLAIN: dict[Callable[..., Any], Callable[..., Tensor]] = {
    F.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    F.group_norm: _group_norm,
    torch.group_norm: _group_norm,
}


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention in plain products: fused kernels have no derivatives in forward mode, and none of second order."""
    names = ("flash", "mem_efficient")
    before = {name: getattr(torch.backends.cuda, f"{name}_sdp_enabled")() for name in names}
    try:
        for name in names:
            getattr(torch.backends.cuda, f"enable_{name}_sdp")(False)
        yield
    finally:
        for name, enabled in before.items():
            getattr(torch.backends.cuda, f"enable_{name}_sdp")(enabled)
