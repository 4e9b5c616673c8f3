from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.allocate.predict import CAUTION, LARGEST_CHANGE, STEEPNESS, Predictor, next_budget
from noworse.errors import BadInput
from noworse.task.task import Task

Z95 = 1.6448536269514722  # of the standard normal distribution
SAMPLES = 1000


class Table(nn.Module):
    """A model that looks its outputs up: batch -> outputs[batch]."""

    def __init__(self, outputs: Tensor) -> None:
        super().__init__()
        self.outputs = nn.Parameter(outputs)

    def forward(self, rows: Tensor) -> Tensor:
        return self.outputs[rows]


def no_loss(model: nn.Module, batch: Any) -> Tensor:
    raise RuntimeError("no labels here")


def predictor(
    original: Tensor, compressed: Tensor, distill: str = "kl", loss: Callable[..., Tensor] = no_loss
) -> Predictor:
    teacher, student = Table(original), Table(compressed)
    rows = torch.arange(len(original))
    workspace: Any = SimpleNamespace(teacher=teacher, student=student, forward=lambda module, batch: module(batch))
    task = Task(teacher, loss, [rows], [rows], distill=distill)
    return Predictor(task, workspace, rows.split(max(len(rows) // 3, 1)), SAMPLES, 0.95)


def simulate(original: Tensor, compressed: Tensor, draws: int) -> tuple[float, float]:
    """Mean and deviation of loss differences where labels come from the original's softmax, by drawing them."""
    generator = torch.Generator().manual_seed(0)
    labels = original.softmax(-1).multinomial(draws, replacement=True, generator=generator)
    losses = [-F.log_softmax(logits, -1).gather(-1, labels) for logits in (original, compressed)]
    differences = losses[1] - losses[0]
    return differences.mean().item(), differences.std().item()


@pytest.mark.parametrize("noise", [0.05, 0.5, 2.0])
def test_mean_and_deviation_are_those_of_a_simulation(noise: float) -> None:
    torch.manual_seed(1)
    original = 2 * torch.randn(60, 7, dtype=torch.float64)
    compressed = original + noise * torch.randn(60, 7, dtype=torch.float64)
    found = predictor(original, compressed)
    mean, deviation = found._outputs()
    simulated_mean, simulated_deviation = simulate(original, compressed, 20_000)
    error = simulated_deviation / math.sqrt(60 * 20_000)
    assert mean == pytest.approx(simulated_mean, abs=5 * error)
    assert deviation == pytest.approx(simulated_deviation, rel=0.02)
    assert found.bound() == pytest.approx(mean + CAUTION * Z95 * deviation / math.sqrt(SAMPLES))


def test_same_outputs_predict_no_difference() -> None:
    logits = torch.randn(40, 5)
    assert predictor(logits, logits + 3.0).bound() == pytest.approx(0, abs=1e-6)  # softmax ignores the shift


def test_positions_are_averaged_within_a_sample() -> None:
    """A sequence whose positions are all alike counts as one of them."""
    torch.manual_seed(2)
    original, compressed = torch.randn(30, 6), torch.randn(30, 6)
    flat = predictor(original, compressed)._outputs()
    repeated = predictor(original[:, None].repeat(1, 4, 1), compressed[:, None].repeat(1, 4, 1))._outputs()
    assert repeated == pytest.approx(flat)


def test_other_distillations_compare_losses() -> None:
    original, compressed = torch.randn(50, 3), torch.randn(50, 3)
    found = predictor(original, compressed, "mse", lambda model, rows: model(rows).square().sum(1))
    differences = compressed.square().sum(1) - original.square().sum(1)
    expected = differences.mean() + CAUTION * Z95 * differences.std() / math.sqrt(SAMPLES)
    assert found.bound() == pytest.approx(expected.item(), rel=1e-5)


def test_a_loss_that_needs_labels_is_named() -> None:
    with pytest.raises(BadInput, match="distill='mse', the loss must work on calib: no labels here"):
        predictor(torch.randn(50, 3), torch.randn(50, 3), "mse").bound()


POSITIVE = st.floats(1e-8, 1e3)


@given(POSITIVE, POSITIVE, st.floats(0, 1e6), st.floats(1, 1e7))
def test_next_budget_follows_a_clamped_power_law(bound: float, limit: float, floor: float, codes: float) -> None:
    found = (next_budget(floor + codes, bound, limit, floor) - floor) / codes
    expected = min(max((bound / limit) ** (1 / STEEPNESS), math.exp(-LARGEST_CHANGE)), math.exp(LARGEST_CHANGE))
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-5 * floor / codes)


@given(POSITIVE, POSITIVE, POSITIVE)
def test_next_budget_is_monotone(low: float, high: float, limit: float) -> None:
    low, high = sorted((low, high))
    assert next_budget(1e5, low, limit, 1e3) <= next_budget(1e5, high, limit, 1e3), "a larger loss needs more bits"
    assert next_budget(1e5, limit, low, 1e3) >= next_budget(1e5, limit, high, 1e3), "a larger tolerance needs fewer"


@pytest.mark.parametrize(("bound", "limit"), [(-0.1, 0.01), (0.0, 0.01), (0.0, 0.0), (0.5, 0.0)])
def test_next_budget_of_bounds_and_tolerances_that_are_not_positive(bound: float, limit: float) -> None:
    found = next_budget(1000.0, bound, limit, 200.0)
    assert 200 + 800 * math.exp(-LARGEST_CHANGE) <= found + 1e-9
    assert found <= 200 + 800 * math.exp(LARGEST_CHANGE) + 1e-9
