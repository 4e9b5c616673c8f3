"""What hooks see, and what they do not, is listed."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.sensitivity.coverage import coverage
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
