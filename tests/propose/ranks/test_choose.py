from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noworse.propose.ranks.candidates import Candidate
from noworse.propose.ranks.choose import at_drop, at_price, dropped

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
