from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

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
ZERO = torch.zeros((), dtype=torch.float64)


def cube(t: Tensor) -> Tensor:
    return torch.as_tensor(BackwardOnly.apply(X + t))


def test_two_backward_passes_serve_where_forward_mode_does_not() -> None:
    assert torch.allclose(along(cube, ZERO), 3 * X**2)
    assert torch.allclose(second_along(cube, ZERO), 6 * X)


def test_structures_and_what_does_not_move() -> None:
    found, (still, other) = along(lambda t: (cube(t), [X, 2 * t]), ZERO)
    assert torch.allclose(found, 3 * X**2)
    assert not still.any()
    assert float(other) == 2
    assert not second_along(lambda t: cube(t * 0) + t, ZERO).any()


def test_forward_mode_gives_the_same() -> None:
    assert torch.allclose(along(lambda t: (X + t) ** 3, ZERO), 3 * X**2)
    assert torch.allclose(second_along(lambda t: (X + t) ** 3, ZERO), 6 * X)


MEAN = torch.tensor([0.1, -0.2, 0.3, 0.5], dtype=torch.float64)
NORMS = {
    "layer": lambda x, w, b: F.layer_norm(x, (4, 3), w.expand(4, 3), b.expand(4, 3), eps=0.1),
    "layer without scale": lambda x, w, b: F.layer_norm(x, (3,)),
    "group": lambda x, w, b: F.group_norm(x, 2, w[:1].expand(4), b[:1].expand(4), 0.1),
    "batch": lambda x, w, b: F.batch_norm(x, MEAN, MEAN.exp(), w[:1].expand(4), b[:1].expand(4)),
    "attention": lambda x, w, b: F.scaled_dot_product_attention(x, x * w, x + b),
}


@pytest.mark.parametrize("name", NORMS)
def test_second_derivatives_of_what_layers_do(name: str) -> None:
    torch.manual_seed(0)
    x, w, b = (torch.randn(*shape, dtype=torch.float64) for shape in ((2, 4, 3), (3,), (3,)))
    dx, dw, db = torch.randn_like(x), torch.randn_like(w), torch.randn_like(b)

    def value(t: Tensor | float) -> Tensor:
        return torch.as_tensor(NORMS[name](x + t * dx, w + t * dw, b + t * db))

    step = 1e-4
    before, now, after = value(-step), value(0.0), value(step)
    assert torch.allclose(along(value, ZERO), (after - before) / (2 * step), atol=1e-6)
    assert torch.allclose(second_along(value, ZERO), (after - 2 * now + before) / step**2, atol=1e-5)


def test_no_derivative_at_all() -> None:
    with pytest.raises(BadInput, match=r"no derivatives of the model.*expected kind="):
        along(lambda t: OnlyOnce.apply(X + t), ZERO)
