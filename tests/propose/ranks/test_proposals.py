from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noworse.propose.ranks.candidates import Analysis
from noworse.propose.ranks.proposals import Proposal, offered, picked, proposals
from noworse.survey.kronecker import Curvature
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
        made = [Proposal(rank and ("flat", rank), float(bits), float(loss)) for rank, bits, loss in row]
        table[str(k)] = [Proposal(None, 0.0, 2000.0), *made]
    all_ = itertools.product(*table.values())
    least = min(sum(p.loss for p in each) for each in all_ if sum(p.bits for p in each) <= limit)
    plan = picked(table, limit)
    options = [[p for p in row if p.choice == plan.get(name)] for name, row in table.items()]
    within = [each for each in itertools.product(*options) if sum(p.bits for p in each) <= limit]
    assert min(sum(p.loss for p in each) for each in within) == least
