from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noworse.propose.ranks.candidates import Analysis
from noworse.propose.ranks.joint import (
    CUT,
    GAIN,
    GLANCE,
    LARGEST,
    LOOK,
    RankProposal,
    climb,
    offered,
    picked,
    proposals,
)
from noworse.survey.curvature import Curvature
from tests.propose.ranks.test_candidates import LAYERS, analysis


def linear(weight):
    """The analysis of a linear layer of this weight (O, I), all of whose inputs and outputs matter alike."""
    layer = torch.nn.Linear(*reversed(weight.shape))
    with torch.no_grad():
        layer.weight.copy_(weight)
    rows, columns = (torch.eye(n, dtype=torch.float64) for n in weight.shape)
    nothing = torch.zeros(weight.shape[1], dtype=torch.float64)
    return Analysis(layer, Curvature(columns, nothing, nothing, rows, 1, 1), "kronecker")


def redundant(m=60, n=60, rank=3, noise=0.01):
    generator = torch.Generator().manual_seed(0)
    left, right, rest = (torch.randn(*s, generator=generator) for s in ((m, rank), (rank, n), (m, n)))
    return left @ right / rank**0.5 + noise * rest


def entropy_bits(codes):
    counts = np.unique(codes, return_counts=True)[1]
    return float(-(counts * np.log2(counts / counts.sum())).sum())


@pytest.mark.parametrize("name", ["linear", "tokens", "1x1", "3x3"])
def test_grids_are_priced_by_the_entropy_of_their_codes_and_the_curvature_of_their_error(name):
    found = analysis(*LAYERS[name])[0]
    weight = found.weight.numpy()
    x = found.known.inputs.numpy() / found.known.places
    if found.centred:
        mean = found.known.sums.numpy() / found.known.places
        x = x - np.outer(mean, mean)
    g = found.known.gradients.numpy() / found.known.samples
    grids = [p for p in proposals(found) if p.choice is None]
    rms = np.sqrt((weight**2).mean())
    for k, proposal in enumerate(grids[1:]):
        step = 0.1 * 2 ** (k / 2) * rms
        codes = np.sign(weight) * np.maximum(np.floor(np.abs(weight) / step - 0.6) + 1, 0)
        decoded = np.sign(codes) * (np.abs(codes) + 0.1) * step
        delta = (decoded - weight).reshape(len(weight), -1)
        assert proposal.bits == pytest.approx(entropy_bits(codes), abs=1e-6)
        assert proposal.loss == pytest.approx(0.5 * np.einsum("ab,bi,ij,aj->", g, delta, x, delta), rel=1e-6)
    assert grids[0].bits == 0
    assert grids[0].loss == pytest.approx(found.lost(torch.zeros_like(found.weight)))


@pytest.mark.parametrize("name", ["linear", "3x3", "oblong"])
def test_fine_products_lose_what_the_cut_does(name):
    found = analysis(*LAYERS[name])[0]
    by_choice = itertools.groupby(proposals(found), key=lambda p: p.choice)
    for choice, group in by_choice:
        nothing, finest, *_ = group
        assert nothing.bits == 0
        if choice is None:
            continue
        way, rank = choice
        left, right = found.spectrum(way).factors(rank)
        cut = found.candidate(way, rank).loss
        assert finest.loss == pytest.approx(cut, rel=0.5, abs=0.05 * nothing.loss)
        assert finest.bits <= (left.numel() + right.numel()) * math.log2(10 * max(left.numel(), right.numel()))


def test_ranks_are_below_break_even_and_cover_all_scales():
    assert offered(29) == [29, 21, 14, 10, 7, 5, 3, 2, 1]
    assert offered(1) == [1]
    assert offered(0) == []
    assert {p.choice for p in proposals(linear(redundant(1, 50, 1)))} == {None}


def test_a_product_is_picked_where_the_rank_is_low_and_bits_are_scarce():
    low, full = redundant(), torch.randn(60, 60, generator=torch.Generator().manual_seed(1))
    table = {"low": proposals(linear(low)), "full": proposals(linear(full))}
    plan = picked(table, 1.0 * 7200)
    assert list(plan) == ["low"]
    assert plan["low"] == ("flat", 3)
    assert all(rank > 0 for _, rank in picked(table, 0).values())


rows = st.lists(
    st.tuples(st.sampled_from([None, 1, 2, 3]), st.integers(0, 20), st.integers(0, 1000)), min_size=1, max_size=5
)


@given(st.lists(rows, min_size=1, max_size=3), st.integers(0, 60))
def test_the_plan_is_that_of_the_best_of_all_allocations(drawn, limit):
    table = {}
    for k, row in enumerate(drawn):
        made = [RankProposal(rank and ("flat", rank), float(bits), float(loss)) for rank, bits, loss in row]
        table[str(k)] = [RankProposal(None, 0.0, 2000.0), *made]
    all_ = itertools.product(*table.values())
    least = min(sum(p.loss for p in each) for each in all_ if sum(p.bits for p in each) <= limit)
    plan = picked(table, limit)
    options = [[p for p in row if p.choice == plan.get(name)] for name, row in table.items()]
    within = [each for each in itertools.product(*options) if sum(p.bits for p in each) <= limit]
    assert min(sum(p.loss for p in each) for each in within) == least


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
