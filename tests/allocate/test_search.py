from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noworse.allocate.search import LARGEST_CHANGE, STEEPNESS, Bisection, PowerLaw, look, within
from noworse.judge.verdict import Verdict, judge

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
