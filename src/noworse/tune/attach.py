"""A student's parameters as views of one flat vector, and its gradient as another, or as the same."""

import functools

import torch
from torch import Tensor, nn

from noworse.propose.grids.grid import GridSet

SHARED = 1 << 21  # weights from which on they share memory with their gradients: less speed for less memory


def attach(student: nn.Module, grids: GridSet, given: set[int] | None = None) -> tuple[Tensor, Tensor]:
    """Make the grid tensors of ``student`` views of one flat vector; return it and the flat gradient, both (N,).

    With ``given`` the two are one: each tensor gives way to its gradient when a backward pass is done with it, and its
    number is added to ``given``.
    """
    parameters = dict(student.named_parameters(remove_duplicate=False))
    homes = {_memory(parameters[spec.name]): k for k, spec in enumerate(grids.specs)}
    placed = [(p, homes.get(_memory(p))) for p in student.parameters()]  # all places before any moves
    for parameter, k in placed:  # their own memory goes before there is other
        parameter.data = parameter.data if k is None else parameter.data.new_empty(0)
    values = grids.latent.new_zeros(grids.count)
    gradient = torch.zeros_like(values) if given is None else values
    for parameter, k in placed:
        parameter.requires_grad_(k is not None)
        if k is not None:
            unflatten = grids.specs[k].unflatten
            parameter.data = unflatten(values[grids.rows[k]])
            if given is None:
                parameter.grad = unflatten(gradient[grids.rows[k]])
            else:
                give_way = functools.partial(_give_way, given, k)
                parameter.register_post_accumulate_grad_hook(give_way)  # type: ignore[no-untyped-call]
    return values, gradient


def _give_way(given: set[int], k: int, parameter: Tensor) -> None:
    """Put the gradient of tensor k where the tensor was."""
    assert parameter.grad is not None, "hooks run after it was accumulated"
    parameter.data.copy_(parameter.grad)
    parameter.grad = None
    given.add(k)


def may_share(student: nn.Module, grids: GridSet) -> bool:
    """Whether large weights can give way to their gradients: none may be part of the module as several parameters."""
    homes = [_memory(parameter) for parameter in student.parameters()]
    return grids.count >= SHARED and grids.remakes and len(set(homes)) == len(homes)


def _memory(tensor: Tensor) -> tuple[object, ...]:
    """What tied parameters agree in."""
    return tensor.data_ptr(), tuple(tensor.shape), tensor.stride()
