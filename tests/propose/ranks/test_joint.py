from __future__ import annotations

import itertools
import math

import pytest
import torch

from noworse.propose.ranks.joint import CUT, GAIN, GLANCE, LARGEST, LOOK, climb
from tests.propose.ranks.test_proposals import linear, redundant

LIMIT = 1.0  # bits a weight


def layers(*names, rank=3):
    """Layers of one low rank, whatever their size; what they are worth as products is up to the test."""
    return {name: linear(redundant(rank=rank)) for name in names}


def climbed(analyses, tuned):
    return climb(analyses, LIMIT * sum(a.weight.numel() for a in analyses.values()), tuned)


def ahead(tuned):
    """The same losses, but for no factors at all after a longer look: they are far behind."""
    return lambda plan, share: tuned(plan, share) if plan or share == GLANCE else math.inf


@pytest.mark.parametrize("wanted", [set(some) for n in range(4) for some in itertools.combinations("abc", n)])
def test_layers_become_products_where_that_helps_whatever_was_predicted(wanted):
    tried = []

    def tuned(plan, share):
        if share == LOOK:
            return 1.0
        tried.append(plan)
        return len(set(plan) ^ wanted)

    assert set(climbed(layers("a", "b", "c"), ahead(tuned))) == wanted
    assert tried[0] == {}
    assert all(tried.count(plan) == 1 for plan in tried)


def test_what_the_knapsack_picks_is_tried_before_single_layers():
    """One layer is of low rank, one is not."""
    full = torch.randn(60, 60, generator=torch.Generator().manual_seed(1))
    tried = []
    climbed({"low": linear(redundant()), "full": linear(full)}, lambda plan, share: tried.append(plan) or len(plan))
    assert [set(plan) for plan in tried[:2]] == [set(), {"low"}]
    assert {"low": ("flat", 3)} in tried


def test_the_largest_layers_alone_are_tried_one_at_a_time():
    analyses = layers(*"abcdefghij")
    tried = []
    climbed(analyses, lambda plan, share: tried.append(plan) or 1 - (len(tried) == 1) * 2)  # grids alone stay the best
    single = [next(iter(plan)) for plan in tried if len(plan) == 1]
    assert single == list(analyses)[:LARGEST]


@pytest.mark.parametrize(("gain", "changes"), [(0.8 * GAIN, False), (1.2 * GAIN, True)])
def test_a_layer_changes_where_that_gains_more_than_chance(gain, changes):
    """It is a grid in what the knapsack picks."""
    full = linear(torch.randn(60, 60, generator=torch.Generator().manual_seed(1)))

    def tuned(plan, share):
        return 1.0 if share == LOOK else 1 + ("low" not in plan) - gain * ("full" in plan)

    assert ("full" in climbed({"low": linear(redundant()), "full": full}, ahead(tuned))) == changes


def test_layers_without_a_rank_below_break_even_stay_grids():
    row = linear(redundant(1, 60, 1))
    assert climbed({"row": row}, lambda plan, share: len(plan)) == {}


def narrower(rank):
    """Ranks from this one on, each two thirds of the one before."""
    ladder = [rank]
    while ladder[-1] > 1:
        ladder.append(round(ladder[-1] * 2 / 3))
    return ladder


@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_ranks_of_the_plan_that_is_found_are_lowered_as_long_as_a_longer_look_favours_that(steps):
    looks = []

    def tuned(plan, share):
        if share == GLANCE:
            return -len(plan)
        looks.append(plan["a"][1])
        return 1e6 + abs(looks[-1] - narrower(looks[0])[steps])  # far above what cuts are predicted to lose

    found = climbed(layers("a", rank=14), ahead(tuned))
    assert looks == narrower(looks[0])[: steps + 2]
    assert found == {"a": ("flat", looks[steps])}


def test_ranks_reach_one_at_last():
    found = climbed(layers("a"), ahead(lambda plan, share: -len(plan) if share == GLANCE else 1e6 + plan["a"][1]))
    assert found == {"a": ("flat", 1)}


def test_ranks_that_truncation_would_ruin_are_not_lowered():
    analyses = {"a": linear(redundant(rank=3)), "b": linear(redundant(rank=60))}
    looks = []

    def tuned(plan, share):
        if share == GLANCE:
            return -len(plan)
        looks.append(plan)
        way, rank = looks[0]["b"]
        cut = analyses["b"].candidate(way, round(rank * 2 / 3)).loss
        return 0.9 * cut / CUT + plan["a"][1] * 1e-9

    found = climbed(analyses, ahead(tuned))
    assert found["a"][1] < looks[0]["a"][1]
    assert found["b"] == looks[0]["b"]


def test_where_no_factors_are_best_there_is_no_longer_look():
    def tuned(plan, share):
        return 1 / 0 if share == LOOK else len(plan)

    assert climbed(layers("a"), tuned) == {}


@pytest.mark.parametrize(("grids", "kept"), [(0.9, True), (1.0, True), (1.1, False)])
def test_grids_that_are_ahead_only_after_a_longer_look_are_kept(grids, kept):
    looks = {}

    def tuned(plan, share):
        if share == GLANCE:
            return -len(plan)
        return looks.setdefault(bool(plan), 1.0 if plan else grids)

    assert (climbed(layers("a"), tuned) == {}) == kept
    assert set(looks) == {True, False}
