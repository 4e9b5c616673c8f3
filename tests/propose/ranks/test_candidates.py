from __future__ import annotations

import copy
import dataclasses
import functools

import pytest
import torch
from torch import nn

from noworse.model.factorised import Factorised
from noworse.propose.ranks.build import put
from noworse.propose.ranks.candidates import Analysis, thinned
from noworse.survey.curvature import measure_curvature

LAYERS = {
    "linear": (nn.Linear(12, 9), (30, 12)),
    "tokens": (nn.Linear(12, 9, bias=False), (10, 5, 12)),
    "1x1": (nn.Conv2d(8, 6, 1), (6, 8, 5, 5)),
    "3x3": (nn.Conv2d(8, 12, 3, stride=2, padding=1), (6, 8, 9, 9)),
    "oblong": (nn.Conv2d(6, 10, (3, 5), (1, 2), (1, 0), padding_mode="reflect"), (6, 6, 9, 11)),
    "same": (nn.Conv2d(6, 10, 3, padding="same", dilation=2), (6, 6, 9, 9)),
}


def analysis(layer, shape, weighting="kronecker"):
    torch.manual_seed(1)
    module = nn.Sequential(layer)
    x = torch.randn(shape) + 0.5
    probe = lambda out: (out * torch.randn_like(out)).sum()  # noqa: E731
    known = measure_curvature(module, {"0": layer}, [(functools.partial(module, x), len(x))], probe)
    return Analysis(layer, known["0"], weighting), module, x


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_in_factors_computes_what_the_product_of_its_factors_does(name):
    layer, shape = LAYERS[name]
    found, _, x = analysis(layer, shape)
    ways = {}
    for candidate in found.candidates():
        ways.setdefault(candidate.way, []).append(candidate)
    assert set(ways) == ({"flat", "spatial", "tucker"} if name in ("3x3", "oblong", "same") else {"flat"})
    for candidates in ways.values():
        candidate = candidates[len(candidates) // 2]
        replaced = nn.Sequential(layer)
        put(replaced, "0", found, candidate)
        (factors,) = replaced
        assert isinstance(factors, Factorised)
        assert sum(part.weight.numel() for part in factors) == candidate.parameters < layer.weight.numel()
        dense = nn.Sequential(layer_like(layer, factors.weight, factors.bias))
        torch.testing.assert_close(replaced(x), dense(x), atol=1e-4, rtol=1e-4)


def layer_like(layer, weight, bias):
    other = copy.deepcopy(layer)
    other.weight = nn.Parameter(weight.detach())
    other.bias = None if bias is None else nn.Parameter(bias.detach())
    return other


def test_an_embedding_in_factors():
    layer = nn.Embedding(50, 12, padding_idx=3)
    module, ids = nn.Sequential(layer), torch.randint(0, 40, (20, 6))
    known = measure_curvature(
        module, {"0": layer}, [(functools.partial(module, ids), 20)], lambda out: out.square().sum()
    )
    found = Analysis(layer, known["0"], "kronecker")
    put(module, "0", found, found.candidates()[-1])
    torch.testing.assert_close(module(ids), module[0].weight[ids])
    assert module[0][0].padding_idx == 3


@pytest.mark.parametrize("name", ["tokens", "3x3"])
def test_outputs_that_are_told_apart_less_and_less_end_as_if_they_all_counted_alike(name):
    layer, shape = LAYERS[name]
    found, _, _ = analysis(layer, shape)
    alike = Analysis(layer, found.known, "kronecker")
    alike.known = dataclasses.replace(found.known, gradients=torch.eye(len(found.known.output), dtype=torch.float64))
    distances = []
    for spread in (0.0, 1.0, 1e6):
        spread_out = Analysis(layer, found.known, "kronecker", spread)
        dense = [each.spectrum("flat").factors(3) for each in (spread_out, alike)]
        distances.append(float((dense[0][0] @ dense[0][1] - dense[1][0] @ dense[1][1]).norm()))
    assert distances[0] > distances[1] > distances[2]
    assert distances[2] < 1e-4


def test_predictions_of_a_linear_layer_are_its_gauss_newton_loss():
    layer = nn.Linear(12, 9, bias=False)
    found, _, _ = analysis(layer, (400, 12))
    for candidate in found.candidates():
        left, right = found.factors(candidate)
        error = left @ right - layer.weight.detach().double()
        exact = 0.5 * float((found.known.output @ error @ found.known.second * error).sum())
        assert candidate.loss == pytest.approx(exact, rel=0.2)  # damping
        assert found.lost(left @ right) == pytest.approx(exact, rel=1e-6)


def test_a_bias_takes_the_error_at_the_mean_input():
    layer = nn.Linear(12, 9)
    found, module, x = analysis(layer, (400, 12))
    before = module(x).mean(0)
    put(module, "0", found, found.candidates()[1])
    torch.testing.assert_close(module(x).mean(0), before, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(("m", "n"), [(10, 500), (7, 7), (2, 3), (1, 9), (100, 80)])
def test_only_ranks_below_break_even_are_offered(m, n):
    layer = nn.Linear(n, m, bias=False)
    found, _, _ = analysis(layer, (20, n), "whitened")
    offered = [candidate.ranks[0] for candidate in found.candidates()]
    assert all(rank * (m + n) < m * n for rank in offered)
    assert max(offered, default=0) == (m * n - 1) // (m + n)


def test_thinned_ranks_keep_both_ends():
    assert thinned(5) == [1, 2, 3, 4, 5]
    assert thinned(0) == []
    assert (thinned(900)[0], thinned(900)[-1]) == (1, 900)
    assert len(thinned(900)) <= 48
