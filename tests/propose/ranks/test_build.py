from __future__ import annotations

import functools

import numpy as np
import torch
from torch import nn

from noworse.model.factorised import Factorised
from noworse.propose.ranks.build import build, refreshed
from noworse.propose.ranks.candidates import Analysis
from noworse.propose.ranks.spectrum import DAMPING
from noworse.survey.kronecker import measure_curvature


def net(bias):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 12, bias=bias)).requires_grad_(True)
    x = torch.randn(400, 16)
    layers = {"0": module[0], "2": module[2]}
    known = measure_curvature(module, layers, [(functools.partial(module, x), len(x))], lambda out: out.square().sum())
    module.requires_grad_(False)
    return module, x, {name: Analysis(layers[name], known[name], "kronecker") for name in layers}


def test_a_refreshed_layer_aims_at_what_the_original_does_with_the_originals_inputs():
    """Against least squares with a ridge by numpy."""
    module, x, analyses = net(False)
    first = build(module, analyses, {"0": analyses["0"].candidate("flat", 3)})
    found = refreshed(module, first, "2", analyses["2"], [lambda m: m(x)])
    h, moved = (m[1](m[0](x)).detach().numpy().astype(float) for m in (module, first))
    w = module[2].weight.detach().numpy().astype(float)
    ridge = np.sqrt(DAMPING * np.mean(moved**2, 0).mean() * len(x)) * np.eye(16)
    solved = np.linalg.lstsq(np.vstack([moved, ridge]), np.vstack([h @ w.T, ridge @ w.T]), rcond=None)[0].T
    np.testing.assert_allclose(found.weight.numpy(), solved, atol=1e-4)


def test_layers_made_for_their_inputs_err_less():
    module, x, analyses = net(True)
    chosen = {name: analyses[name].candidate("flat", 4) for name in analyses}
    errors = []
    for runs in ([], [lambda m: m(x)]):
        built = build(module, analyses, chosen, runs)
        assert isinstance(built[2], Factorised)
        errors.append(float((built(x) - module(x)).square().mean()))
    assert errors[1] < 0.98 * errors[0]
    assert isinstance(module[0], nn.Linear)
