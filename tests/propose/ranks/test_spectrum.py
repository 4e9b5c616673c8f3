from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noworse.propose.ranks.spectrum import WEIGHTINGS, Root, Spectrum, metrics, root
from noworse.survey.curvature import Curvature

sizes = st.integers(1, 9)


def draws(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def metric(seed, size, kind):
    if kind == "none":
        return None
    if kind == "diagonal":
        return draws(seed, size).square()
    samples = draws(seed, size, max(1, size // 2) if kind == "singular" else 3 * size)
    return samples @ samples.T / samples.shape[1]


DENSE = st.sampled_from(["none", "diagonal", "full", "singular"])


@given(sizes, sizes, DENSE, DENSE, st.integers(0, 99))
def test_both_orders_of_every_rank_are_those_of_direct_evaluation(m, n, rows, columns, seed):
    weight, gradient = draws(seed, m, n), draws(seed + 1, m, n)
    r, c = root(metric(seed + 2, m, rows)), root(metric(seed + 3, n, columns))
    spectrum = Spectrum.of(weight, r, c)
    first, second = spectrum.first_order(gradient), spectrum.second_order()
    for rank in range(len(spectrum.sigma) + 1):
        left, right = spectrum.factors(rank)
        error = left @ right - weight
        assert float(first[rank]) == pytest.approx(float((gradient * error).sum()), abs=1e-6)
        weighted = c.apply(r.apply(error).T).T
        assert float(second[rank]) == pytest.approx(0.5 * float(weighted.square().sum()), abs=1e-6)


@given(sizes, sizes, st.integers(0, 99))
def test_plain_factors_are_numpys_truncated_svd(m, n, seed):
    weight = draws(seed, m, n)
    u, s, v = np.linalg.svd(weight.numpy(), full_matrices=False)
    for rank in range(len(s) + 1):
        left, right = Spectrum.of(weight, Root(), Root()).factors(rank)
        np.testing.assert_allclose((left @ right).numpy(), (u[:, :rank] * s[:rank]) @ v[:rank], atol=1e-9)


@pytest.mark.parametrize("weight", [torch.zeros(5, 4), torch.ones(5, 4), torch.eye(6)[:, :2], torch.randn(1, 7)])
def test_deficient_zero_and_single_row_matrices(weight):
    weight = weight.double()
    spectrum = Spectrum.of(weight, root(torch.zeros(weight.shape[0])), root(metric(0, weight.shape[1], "singular")))
    rank = int(torch.linalg.matrix_rank(weight))
    left, right = spectrum.factors(rank)
    torch.testing.assert_close(left @ right, weight)
    assert spectrum.second_order()[rank] == pytest.approx(0, abs=1e-12)


def test_the_metric_of_the_loss_beats_all_others_by_its_own_measure():
    x, g = draws(0, 8, 50) * torch.arange(1, 9)[:, None], draws(1, 6, 50) * torch.arange(1, 7)[:, None] ** 2
    known = Curvature(x @ x.T, x.sum(1), x.abs().sum(1), g @ g.T, 50, 50)
    weight = draws(2, 6, 8)
    losses = {}
    for weighting in WEIGHTINGS:
        rows, columns = metrics(weighting, known, False)
        left, right = Spectrum.of(weight, root(rows, 1e-9), root(columns, 1e-9)).factors(2)
        error = left @ right - weight
        losses[weighting] = float((known.output @ error @ known.second * error).sum())
    assert losses["kronecker"] == min(losses.values())
