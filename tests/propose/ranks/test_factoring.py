from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noworse.errors import BadInput
from noworse.jobs.decompose import HELD_BACK
from noworse.propose.ranks.candidates import Candidate
from noworse.propose.ranks.factoring import Factoring, at_drop, at_price, dropped
from noworse.survey.subject import Subject
from tests import tiny

SIZE = 100
ladders = st.lists(st.floats(0, 10), min_size=0, max_size=4)


def offers_of(losses):
    """Layers of 100 parameters, whose candidates have 10, 20, ... of them."""
    return {
        str(n): [Candidate("flat", (k + 1,), 10 * (k + 1), x) for k, x in enumerate(xs)] for n, xs in enumerate(losses)
    }


@given(st.lists(ladders, min_size=1, max_size=3), st.floats(0.001, 1))
def test_a_price_is_answered_by_the_least_sum_of_loss_and_price(losses, price):
    offers = offers_of(losses)
    sizes = dict.fromkeys(offers, SIZE)
    chosen = at_price(offers, sizes, price)
    total = sum(c.loss + price * c.parameters for c in chosen.values()) + price * SIZE * (len(offers) - len(chosen))
    stay = Candidate("none", (), SIZE, 0.0)
    every = itertools.product(*([stay, *row] for row in offers.values()))
    assert total == pytest.approx(min(sum(c.loss + price * c.parameters for c in each) for each in every))


def test_enough_is_dropped_at_the_least_price():
    offers = offers_of([[3.0, 1.0, 0.1], [9.0, 5.0, 4.0]])
    sizes = dict.fromkeys(offers, SIZE)
    for count, expected in ((70, (3,)), (71, (3, 3)), (141, (2, 3)), (151, (2, 2)), (1000, (1, 1))):
        chosen = at_drop(offers, sizes, count)
        assert dropped(chosen, sizes) >= min(count, 180)
        assert tuple(c.ranks[0] for c in chosen.values()) == expected  # at slopes .0014, .057, .09, .1, .2 and .4


def factoring(preset="default", only=None):
    task = tiny.task(tiny.mlp(64))
    return Factoring(Subject(task, list(task.calib), HELD_BACK), only, preset)


def test_dear_parameters_are_dropped_and_what_is_built_is_further_away():
    found = factoring()
    chosen = [found.at_price(price) for price in (-40, -6, 5)]
    counts = [dropped(each, found.sizes) for each in chosen]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]
    distances = [found.mean_distance(found.build(each)) for each in ({}, chosen[-1])]
    assert distances[0] == pytest.approx(0, abs=1e-9)
    assert distances[1] > distances[0]


def test_the_first_spread_alone_is_offered_by_plain_methods():
    found = factoring("svd")
    module, chosen = found.at_drop(0.3)
    assert dropped(chosen, found.sizes) >= 0.3 * sum(found.sizes.values())
    for name, candidate in chosen.items():
        weight = found.teacher.get_submodule(name).weight.detach()
        u, s, v = torch.linalg.svd(weight.double(), full_matrices=False)
        rank = candidate.ranks[0]
        expected = ((u[:, :rank] * s[:rank]) @ v[:rank]).float()
        torch.testing.assert_close(module.get_submodule(name).weight, expected, atol=1e-4, rtol=1e-4)


def test_what_cannot_be_asked():
    with pytest.raises(BadInput, match=r"drop 0.99 asks for .* at rank 1"):
        factoring().at_drop(0.99)
    with pytest.raises(BadInput, match="no layer can be decomposed"):
        factoring(only=lambda name, layer: False)
    with pytest.raises(BadInput, match="unknown preset 'best': expected one of default, svd, fwsvd"):
        factoring("best")
