from __future__ import annotations

import pytest
import torch

from noworse.errors import BadInput
from noworse.jobs.decompose import HELD_BACK
from noworse.propose.ranks.choose import dropped
from noworse.propose.ranks.factoring import Factoring
from noworse.survey.subject import Subject
from tests import tiny


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
