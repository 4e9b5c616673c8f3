from __future__ import annotations

import itertools

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from noworse.format.groups import _bits, _cuts, _histogram, group


def laplace(scale, size, seed=0):
    return np.rint(np.random.default_rng(seed).laplace(scale=scale, size=size)).astype(np.int32)


@given(st.lists(st.tuples(st.sampled_from([0.1, 1, 50]), st.integers(1, 200)), max_size=120))
def test_groups_are_a_partition(kinds):
    groups = group([laplace(scale, size) for scale, size in kinds])
    assert sorted(itertools.chain(*groups)) == list(range(len(kinds)))
    assert all(members == sorted(members) for members in groups)


def test_like_tensors_share_and_unlike_ones_do_not():
    codes = [laplace(scale, 300, seed) for seed, scale in enumerate([0.5, 30, 0.5, 30, 0.5, 30])]
    assert group(codes) == [[0, 2, 4], [1, 3, 5]]


def test_large_streams_stand_alone_where_their_statistics_differ():
    assert group([laplace(0.5, 9000), laplace(0.7, 9000)]) == [[0], [1]]
    assert group([laplace(0.5, 90), laplace(0.7, 90)]) == [[0, 1]]


@given(st.lists(st.tuples(st.sampled_from([0.2, 0.6, 2, 9]), st.integers(1, 400)), min_size=1, max_size=7))
def test_the_cuts_are_the_cheapest(kinds):
    counts = np.stack([_histogram(laplace(scale, size)) for scale, size in kinds])

    def cost(cuts):
        return sum(float(_bits(counts[a:b].sum(axis=0, keepdims=True))[0]) for a, b in cuts)

    everything = []
    for inner in itertools.product([False, True], repeat=len(kinds) - 1):
        edges = [0, *(i + 1 for i, cut in enumerate(inner) if cut), len(kinds)]
        everything.append(cost(list(itertools.pairwise(edges))))
    assert cost(_cuts(counts)) <= min(everything) * (1 + 1e-12)


def test_more_tensors_than_the_search_looks_at():
    codes = [laplace(scale, 20, seed) for seed, scale in enumerate([0.3, 20] * 400)]
    groups = group(codes)
    assert len(groups) <= 4
    assert sorted(itertools.chain(*groups)) == list(range(800))
