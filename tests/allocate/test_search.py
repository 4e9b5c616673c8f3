from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.allocate.search import CAUTION, LARGEST_CHANGE, STEEPNESS, Bisection, PowerLaw, Predictor, look, within
from noworse.errors import BadInput
from noworse.judge.verdict import Verdict, judge
from noworse.task.task import Task

POSITIVE = st.floats(1e-8, 1e3)


@given(POSITIVE, POSITIVE, st.floats(0, 1e6), st.floats(1, 1e7))
def test_budgets_follow_a_clamped_power_law(bound: float, limit: float, floor: float, codes: float) -> None:
    share = (PowerLaw(floor + codes, floor).tell(bound, limit) - floor) / codes
    expected = min(max((bound / limit) ** (1 / STEEPNESS), math.exp(-LARGEST_CHANGE)), math.exp(LARGEST_CHANGE))
    assert share == pytest.approx(expected, rel=1e-6, abs=1e-5 * floor / codes)


@given(POSITIVE, POSITIVE, POSITIVE)
def test_budgets_are_monotone(low: float, high: float, limit: float) -> None:
    low, high = sorted((low, high))
    line = PowerLaw(1e5, 1e3)
    assert line.tell(low, limit) <= line.tell(high, limit), "a larger loss needs more bits"
    assert line.tell(limit, low) >= line.tell(limit, high), "a larger tolerance needs fewer"


@pytest.mark.parametrize(("bound", "limit"), [(-0.1, 0.01), (0.0, 0.01), (0.0, 0.0), (0.5, 0.0)])
def test_budgets_of_bounds_and_tolerances_that_are_not_positive(bound: float, limit: float) -> None:
    budget = PowerLaw(1000.0, 200.0).tell(bound, limit)
    assert 200 + 800 * math.exp(-LARGEST_CHANGE) <= budget + 1e-9
    assert budget <= 200 + 800 * math.exp(LARGEST_CHANGE) + 1e-9


def test_no_budget_below_the_least() -> None:
    assert PowerLaw(1000.0, 200.0, 990.0).tell(0.0, 1.0) == 990.0


@pytest.mark.parametrize("geometric", [False, True])
def test_bisection_finds_where_a_bound_meets_the_limit(geometric: bool) -> None:
    """bound(x) = 1/x meets 0.25 at x = 4."""
    line, tried = Bisection(0.5, 64.0, geometric), []
    within(line, lambda at, number: tried.append(at), lambda: 1 / tried[-1], 0.25, 40)
    assert line.best == pytest.approx(4.0, rel=1e-6)
    assert tried[0] == (math.sqrt(0.5 * 64) if geometric else 32.25)
    nothing = Bisection(0.5, 64.0)
    within(nothing, lambda at, number: None, lambda: 1.0, 0.25, 5)
    assert nothing.best is None


def test_rounds_that_are_known_are_not_predicted_again() -> None:
    asked: list[str] = []

    def note(name: str, action: Callable[[], float]) -> float:
        asked.append(name)
        return 7.0 if name == "budget 1" else action()

    line, tried = PowerLaw(10.0), []
    within(line, lambda at, number: tried.append((at, number)), lambda: 1.0, 1.0, 2, note)
    assert asked == ["budget 1", "budget 2"]
    assert tried == [(10.0, 1), (7.0, 2)]


def verdict(worse_by: float, number: int, looks: int) -> Verdict:
    losses = np.random.default_rng(0).exponential(1, 100)
    return judge(losses, losses + worse_by, 0.1, look=number, looks=looks)


@pytest.mark.parametrize(("needed", "looks", "taken"), [(1, 3, 1), (2, 3, 2), (3, 3, 3), (9, 3, 3), (9, 1, 1)])
def test_looks_end_with_the_first_that_passes_or_with_the_last_declared(needed: int, looks: int, taken: int) -> None:
    made = []

    def results() -> Iterator[tuple[int, Any]]:
        for number in range(1, 100):
            made.append(number)
            yield number, f"result {number}"

    result, last = look(results(), lambda r, n: verdict(0.0 if n >= needed else 1.0, n, looks), looks)
    assert (result, last.look, last.looks) == (f"result {taken}", taken, looks)
    assert last.passed is (needed <= looks)
    assert made == list(range(1, taken + 1)), "nothing is made that is not looked at"


def test_a_look_that_was_spent_before_an_interruption_is_not_repeated() -> None:
    result, last = look(iter([(2, "second")]), lambda r, n: verdict(0.0, n, 3), 3)
    assert (result, last.look) == ("second", 2)


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
    with pytest.raises(BadInput, match=r"distill='mse', the loss must work on calib: .* no labels here"):
        predictor(torch.randn(50, 3), "mse").bound(Table(torch.randn(50, 3)))
