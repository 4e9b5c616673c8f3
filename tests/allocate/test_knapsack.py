from __future__ import annotations

import itertools
import time
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noworse.allocate.knapsack import Choices, allocate, back_off, knapsack, settle
from noworse.errors import BadInput


def problem(layers: int, options: int, seed: int, pairs: bool = False) -> Choices:
    """Layers of different sizes at 2 bits and more, costs that fall with the bits but for some noise."""
    rng = np.random.default_rng(seed)
    bits = np.sort(rng.choice(np.arange(2, 17), options, replace=False))
    counts = rng.integers(1, 40, layers)
    sizes = [[float(n * b) for b in bits] for n in counts]
    costs = [[float(rng.lognormal() * 4.0**-b - 1e-3 * rng.random()) for b in bits] for _ in counts]
    matrix = None
    if pairs:
        roots = rng.normal(size=(layers * options, 4)) * np.sqrt(np.abs(np.concatenate(costs)))[:, None]
        matrix = roots @ roots.T
    return Choices(costs, sizes, matrix)


def dynamic_programming(choices: Choices, limit: int) -> float:
    """Least cost within ``limit`` bits: V_i(c) = min_j V_{i−1}(c − size_ij) + cost_ij."""
    best = np.zeros(limit + 1)
    for costs, sizes in zip(choices.costs, choices.sizes, strict=True):
        found = np.full(limit + 1, np.inf)
        for cost, size in zip(costs, sizes, strict=True):
            if (s := int(size)) <= limit:
                found[s:] = np.minimum(found[s:], best[: limit + 1 - s] + cost)
        best = found
    return float(best[limit])


def brute_force(choices: Choices, limit: float) -> float:
    every = itertools.product(*(range(len(row)) for row in choices.costs))
    return min(choices.cost(chosen) for chosen in every if choices.size(chosen) <= limit)


def middle(choices: Choices, share: float) -> int:
    low, high = (sum(f(row) for row in choices.sizes) for f in (min, max))
    return int(low + share * (high - low))


@settings(max_examples=40)
@given(layers=st.integers(1, 8), options=st.integers(1, 4), seed=st.integers(0, 999), share=st.floats(0, 1))
def test_the_solver_equals_dynamic_programming_and_brute_force(
    layers: int, options: int, seed: int, share: float
) -> None:
    choices = problem(layers, options, seed)
    limit = middle(choices, share)
    chosen = knapsack(choices, limit)
    assert choices.size(chosen) <= limit
    expected = dynamic_programming(choices, limit)
    assert choices.cost(chosen) == pytest.approx(expected, abs=1e-9)
    if options**layers <= 5000:
        assert expected == pytest.approx(brute_force(choices, limit), abs=1e-12)


def test_pairs_are_taken_into_account() -> None:
    missed, ignored = 0.0, 0.0
    for seed in range(8):
        choices = problem(6, 4, seed, pairs=True)
        limit = middle(choices, 0.3)
        found, alone = allocate(choices, limit), knapsack(choices, limit)
        best = brute_force(choices, limit)
        assert choices.size(found) <= limit
        assert best - 1e-12 <= choices.cost(found) <= choices.cost(alone) + 1e-12
        missed += choices.cost(found) - best
        ignored += choices.cost(alone) - best
    assert missed <= 0.2 * ignored


def test_two_coarse_layers_that_hurt_each_other() -> None:
    """Alone each of two layers gains from few bits; together they lose (measured: −.001, predicted; +.11, true)."""
    pairs = np.zeros((6, 6))
    pairs[0, 2] = pairs[2, 0] = 0.1
    choices = Choices([[-0.002, 0.0], [-0.001, 0.0], [0.004, 0.0]], [[2, 4], [2, 4], [2, 4]], pairs)
    assert knapsack(choices, 10) == [0, 0, 1]
    assert allocate(choices, 10) == [0, 1, 1]
    assert allocate(choices, 8) == [0, 1, 0]


def test_what_is_measured_decides_among_starts_and_their_changes() -> None:
    choices = problem(5, 4, 1, pairs=True)
    limit = middle(choices, 0.4)
    wanted = knapsack(choices, limit)
    asked: list[tuple[int, ...]] = []

    def loss(chosen: Sequence[int]) -> float:  # what no prediction knows
        asked.append(tuple(chosen))
        return float(sum(a != b for a, b in zip(chosen, wanted, strict=True)))

    worst = [int(np.argmin(row)) for row in choices.sizes]
    assert settle(choices, [worst, wanted, worst], limit, loss, 0) == wanted
    assert len(asked) == 2
    asked.clear()
    found = settle(choices, [worst], limit, loss, 200)
    assert len(set(asked)) == len(asked)
    assert all(choices.size(chosen) <= limit for chosen in asked)
    assert found == wanted
    assert settle(Choices([[1.0, 0.0]], [[2, 4]]), [[0]], 9, lambda chosen: 0.0, 5) == [0]


def test_a_back_off_rises() -> None:
    choices = problem(5, 4, 3, pairs=True)
    raised = list(back_off(choices, [int(np.argmin(row)) for row in choices.sizes]))
    sizes = [choices.size(c) for c in raised]
    assert sizes == sorted(sizes)
    assert sizes[-1] == sum(map(max, choices.sizes))
    first = Choices([[8.0, 0.0], [1.0, 0.0]], [[10, 20], [10, 11]])
    assert next(back_off(first, [0, 0])) == [0, 1]  # 1 nat for one bit before 8 for ten


def test_many_layers_are_proven() -> None:
    choices = problem(200, 12, 0)
    begin = time.monotonic()
    limit = middle(choices, 0.3)
    chosen = knapsack(choices, limit)
    assert time.monotonic() - begin < 30  # the benchmark has the target
    assert choices.cost(chosen) == pytest.approx(dynamic_programming(choices, limit), rel=1e-6)


def test_bad_input() -> None:
    choices = problem(3, 3, 0)
    with pytest.raises(BadInput, match="smallest choice takes"):
        allocate(choices, middle(choices, 0) - 1)
    for costs, sizes in ([[]], [[]]), ([[1.0]], [[1.0, 2.0]]), ([], []), ([[float("nan")]], [[1.0]]):
        with pytest.raises(BadInput, match="expected"):
            Choices(costs, sizes)
    with pytest.raises(BadInput, match="pairs"):
        Choices([[1.0]], [[1.0]], np.zeros((2, 2)))
