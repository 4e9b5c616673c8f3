from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.allocate.predict import CAUTION, Predictor
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
    original: Tensor, distill: str = "kl", loss: Callable[..., Tensor] = no_loss, looks: int = 1
) -> Predictor:
    teacher, rows = Table(original), torch.arange(len(original))
    subject: Any = SimpleNamespace(
        task=Task(teacher, loss, [rows], [rows], distill=distill), teacher=teacher,
        held_back=list(rows.split(max(len(rows) // 3, 1))), forward=lambda module, batch: module(batch),
    )  # fmt: skip
    return Predictor(subject, SAMPLES, 0.95, looks)


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
    found, student = predictor(original), Table(compressed)
    mean, deviation = found._outputs(student)
    simulated_mean, simulated_deviation = simulate(original, compressed, 20_000)
    error = simulated_deviation / math.sqrt(60 * 20_000)
    assert mean == pytest.approx(simulated_mean, abs=5 * error)
    assert deviation == pytest.approx(simulated_deviation, rel=0.02)
    assert found.bound(student) == pytest.approx(mean + CAUTION * Z95 * deviation / math.sqrt(SAMPLES))
    wider = predictor(original, looks=3).bound(student)  # the first look has four fifths of 5 %
    assert wider == pytest.approx(mean + CAUTION * 1.7506860712521692 * deviation / math.sqrt(SAMPLES))


def test_same_outputs_predict_no_difference() -> None:
    logits = torch.randn(40, 5)
    assert predictor(logits).bound(Table(logits + 3.0)) == pytest.approx(0, abs=1e-6)  # softmax ignores the shift


def test_positions_are_averaged_within_a_sample() -> None:
    """A sequence whose positions are all alike counts as one of them."""
    torch.manual_seed(2)
    original, compressed = torch.randn(30, 6), torch.randn(30, 6)
    flat = predictor(original)._outputs(Table(compressed))
    repeated = predictor(original[:, None].repeat(1, 4, 1))._outputs(Table(compressed[:, None].repeat(1, 4, 1)))
    assert repeated == pytest.approx(flat)


def test_other_distillations_compare_losses() -> None:
    original, compressed = torch.randn(50, 3), torch.randn(50, 3)
    found = predictor(original, "mse", lambda model, rows: model(rows).square().sum(1))
    differences = compressed.square().sum(1) - original.square().sum(1)
    expected = differences.mean() + CAUTION * Z95 * differences.std() / math.sqrt(SAMPLES)
    assert found.bound(Table(compressed)) == pytest.approx(expected.item(), rel=1e-5)


def test_a_loss_that_needs_labels_is_named() -> None:
    with pytest.raises(BadInput, match="distill='mse', the loss must work on calib: no labels here"):
        predictor(torch.randn(50, 3), "mse").bound(Table(torch.randn(50, 3)))
