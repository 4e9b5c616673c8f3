"""Slopes and bounds of made-up gaps whose powers are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.sensitivity.curves import Point, coverage, noise_curve, slope
from tests import tiny


class Mixed(nn.Module):
    """Modules, shared and unused ones, beside functions and a parameter that only a function reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.again = self.first
        self.unused = nn.Linear(4, 4)
        self.act = nn.ReLU()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x: Tensor) -> Tensor:
        x = self.act(self.again(torch.tanh(self.first(x))))
        return F.gelu(x * self.scale)


def loss(model: nn.Module, batch: Tensor) -> Tensor:
    return model(batch).square().sum(1)  # type: ignore[no-any-return]


def test_functions_between_modules_are_counted() -> None:
    found = coverage(Mixed(), loss, torch.randn(3, 4))
    assert found.calls == {"first": 2, "again": 2, "unused": 0, "act": 1}
    assert found.shared == [["first", "again"]]
    assert found.loose == ["scale"]
    assert found.integers == []
    assert {name: found.functions[name] for name in ("tanh", "mul", "gelu")} == {"tanh": 1, "mul": 1, "gelu": 1}
    assert "relu" not in found.functions  # within a module
    assert "linear" not in found.functions


def test_modules_fed_integers() -> None:
    model = tiny.Language()
    found = coverage(model, tiny.language_loss, tiny.language_task(model).verify[0])
    assert found.integers == ["embed"]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def point(size: float, gap: float, scale: float = 1.0) -> Point:
    return Point("0", "weights", "noise", size, 2 * size, 0.0, 0.0, 0.0, 0.0, gap, gap * size, scale, scale)


def test_slopes_are_powers_and_gaps_of_rounding_are_left_out() -> None:
    found = noise_curve([point(size, 5 * size**2) for size in (1e-4, 1e-3, 1e-2)] + [point(1e-6, 1e-15)], 0.1, 1e-13)
    assert (found.slope_first, found.slope_second) == (pytest.approx(2), pytest.approx(3))
    assert math.isnan(slope([(1.0, 2.0)]))


def test_a_bound_is_the_last_size_before_the_first_failure() -> None:
    gaps = {1e-3: 0.05, 1e-2: 0.2, 1e-1: 0.01}  # the last one holds by luck
    found = noise_curve([point(size, gap) for size, gap in gaps.items()], 0.1, 0.0)
    assert (found.bound_first, found.bound_first_relative) == (1e-3, 2e-3)
    assert noise_curve([point(1e-3, 0.2)], 0.1, 0.0).bound_first is None
