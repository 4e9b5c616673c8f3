"""Derivatives of many values along one number t, at t = 0: in forward mode, or by two backward passes.

Some operations, as products of sparse matrices, have no forward derivative in torch but a backward pass that can be
differentiated: with a probe u for each value y, s(u) = ∂⟨u, y⟩/∂t is linear in u, and ∂s/∂u is dy/dt.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.func import jvp
from torch.nn import functional as F
from torch.utils import _pytree as pytree

from noworse.errors import BadInput
from noworse.model.hooks import Functions

T = TypeVar("T")


def along(function: Callable[[Tensor], T], zero: Tensor) -> T:
    """Return d/dt, at t = ``zero`` (), of all that ``function(t)`` returns; BadInput where torch has no derivative."""
    return _differentiated(function, zero, 1)


def second_along(function: Callable[[Tensor], Tensor], zero: Tensor) -> Tensor:
    """Return d²/dt², at ``zero``, of the values of ``function(t)``, any shape; BadInput as ``along``."""
    return _differentiated(function, zero, 2)


def _differentiated(function: Callable[[Tensor], T], zero: Tensor, order: int) -> T:
    forward, backward = function, function
    for _ in range(order):
        forward, backward = _forward(forward), _backward(backward)
    with _plain_attention(), Functions(_plain):
        # forward mode fails with RuntimeError of custom functions, and of operations with NotImplementedError, which is
        # one too; what is wrong with the model itself fails in both, and is told
        with suppress(RuntimeError):
            return forward(zero)
        try:
            return pytree.tree_map(torch.Tensor.detach, backward(zero.clone().requires_grad_()))  # type: ignore[no-any-return]
        except RuntimeError as error:
            reason = str(error).splitlines()[0][:200]
            message = f"no derivatives of the model: {reason}; expected kind='divergence', 'fisher' or 'loss'"
            raise BadInput(message) from error


def _forward(function: Callable[[Tensor], T]) -> Callable[[Tensor], T]:
    return lambda t: jvp(function, (t,), (torch.ones_like(t),))[1]


def _backward(function: Callable[[Tensor], T]) -> Callable[[Tensor], T]:
    return lambda t: pytree.tree_map(lambda y: _slope(y, t), function(t))


def _slope(values: Tensor, t: Tensor) -> Tensor:
    """dy/dt of values y, with its graph; a backward pass that ends in a constant would hide what it depends on."""
    if values.requires_grad:
        probe = torch.ones_like(values, requires_grad=True)
        (total,) = torch.autograd.grad(values, t, probe, create_graph=True, allow_unused=True)
        if total is not None:
            return torch.autograd.grad(total, probe, create_graph=True)[0]
    return torch.zeros_like(values)


def _plain(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call layer and group norms in elementary operations, since torch takes fused ones' statistics for constants.

    Their second derivatives are silently wrong (pytorch/pytorch#196700, #175754).
    """
    return (PLAIN.get(function) or function)(*args, **kwargs)


def _layer_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: object
) -> Tensor:
    return _scaled(_normal(input, tuple(range(-len(normalized_shape), 0)), eps), weight, bias)


def _group_norm(
    input: Tensor, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5, *_: object
) -> Tensor:
    normal = _normal(input.reshape(len(input), num_groups, -1), (-1,), eps).reshape(input.shape)
    channels = (-1, *[1] * (input.ndim - 2))
    return _scaled(normal, *(each if each is None else each.reshape(channels) for each in (weight, bias)))


def _normal(values: Tensor, dims: tuple[int, ...], eps: float) -> Tensor:
    centred = values - values.mean(dims, keepdim=True)
    return centred * (centred.square().mean(dims, keepdim=True) + eps).rsqrt()


def _scaled(normal: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    normal = normal if weight is None else normal * weight
    return normal if bias is None else normal + bias


PLAIN: dict[Callable[..., Any], Callable[..., Tensor]] = {
    F.layer_norm: _layer_norm,
    torch.layer_norm: _layer_norm,
    F.group_norm: _group_norm,
    torch.group_norm: _group_norm,
}


@contextmanager
def _plain_attention() -> Iterator[None]:
    """Attention in plain products: fused kernels have no derivatives in forward mode, and none of second order."""
    cuda: Any = torch.backends.cuda  # parts of which are without types
    flash, efficient = cuda.flash_sdp_enabled(), cuda.mem_efficient_sdp_enabled()
    cuda.enable_flash_sdp(False)
    cuda.enable_mem_efficient_sdp(False)
    try:
        yield
    finally:
        cuda.enable_flash_sdp(flash)
        cuda.enable_mem_efficient_sdp(efficient)
