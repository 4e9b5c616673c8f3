from __future__ import annotations

import pytest
import torch
from torch import Tensor

from noworse.errors import BadInput
from noworse.sensitivity.derivatives import along, second_along


class BackwardOnly(torch.autograd.Function):
    """A cube that knows no derivative in forward mode; with ``once`` its backward pass cannot be differentiated."""

    once = False

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        (x,) = ctx.saved_tensors
        return 3 * x**2 * gradient


class OnlyOnce(BackwardOnly):
    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient: Tensor) -> Tensor:  # type: ignore[no-untyped-def]
        return 2 * gradient


X = torch.tensor([1.0, 2.0, -0.5], dtype=torch.float64)


def cube(t: Tensor) -> Tensor:
    return torch.as_tensor(BackwardOnly.apply(X + t))


def test_two_backward_passes_serve_where_forward_mode_does_not() -> None:
    assert torch.allclose(along(cube, torch.float64), 3 * X**2)
    assert torch.allclose(second_along(cube, torch.float64), 6 * X)


def test_structures_and_what_does_not_move() -> None:
    found, (still, other) = along(lambda t: (cube(t), [X, 2 * t]), torch.float64)
    assert torch.allclose(found, 3 * X**2)
    assert not still.any()
    assert float(other) == 2
    assert not second_along(lambda t: cube(t * 0) + t, torch.float64).any()


def test_forward_mode_gives_the_same() -> None:
    assert torch.allclose(along(lambda t: (X + t) ** 3, torch.float64), 3 * X**2)
    assert torch.allclose(second_along(lambda t: (X + t) ** 3, torch.float64), 6 * X)


def test_no_derivative_at_all() -> None:
    with pytest.raises(BadInput, match=r"no derivatives of the model.*expected kind="):
        along(lambda t: OnlyOnce.apply(X + t), torch.float64)
