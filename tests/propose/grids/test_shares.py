from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noworse.propose.grids.shares import Shares
from noworse.run.processes import World

SIZES = st.lists(st.integers(1, 1000), min_size=1, max_size=12)


@given(SIZES, st.integers(1, 9))
def test_every_tensor_has_one_home_beside_its_neighbours(sizes: list[int], ranks: int) -> None:
    shares = [Shares(World(rank, ranks), sizes) for rank in range(ranks)]
    assert list(itertools.chain(*(each.own for each in shares))) == list(range(len(sizes)))
    for each in shares:
        assert [k for k, home in enumerate(each.homes) if home == each.world.rank] == list(each.own)
        begin = sum(sizes[: each.own.start])
        assert each.part == slice(begin, begin + sum(sizes[k] for k in each.own))


@given(SIZES, st.integers(1, 9))
def test_no_rank_has_more_than_its_share_and_one_tensor(sizes: list[int], ranks: int) -> None:
    for rank in range(ranks):
        part = Shares(World(rank, ranks), sizes).part
        assert part.stop - part.start <= sum(sizes) / ranks + max(sizes)


def test_equal_layers_are_divided_evenly() -> None:
    shares = [Shares(World(rank, 3), [100] * 12) for rank in range(3)]
    assert [each.own for each in shares] == [range(4), range(4, 8), range(8, 12)]


def test_parts_are_views() -> None:
    whole, shares = torch.arange(10.0), Shares(World(1, 2), [2, 3, 5])
    assert [part.tolist() for part in shares.parts(whole)] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
    shares.parts(whole)[1].zero_()
    assert whole[shares.part].tolist() == [0] * 5
    assert shares.of_own(torch.tensor([1, 2, 3])).tolist() == [3]


def test_alone_all_is_own() -> None:
    shares, numbers = Shares(World(), [2, 3]), torch.tensor([1.0, 2.0])
    assert shares.of_all(numbers) is numbers
    assert torch.equal(shares.of_own(numbers), numbers)
    with pytest.raises(RuntimeError):
        shares.parts(torch.zeros(6))
