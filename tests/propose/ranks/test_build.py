from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.jobs.decompose import decompose_task
from noworse.model.factorised import Factorised
from noworse.propose.ranks.build import build, find_sites, refreshed
from noworse.propose.ranks.candidates import Analysis
from noworse.propose.ranks.spectrum import DAMPING
from noworse.survey.curvature import measure_curvature
from tests import tiny


class Cosine(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return 10 * F.linear(F.normalize(x, dim=-1), F.normalize(self.weight, dim=-1), self.bias)


class Experts(nn.Module):
    """A gate that never chooses the last expert, and a head of a class of its own that reads its input's size."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate, self.head = nn.Linear(20, 3), Cosine(20, 4)
        self.experts = nn.ModuleList(nn.Linear(20, 20) for _ in range(3))
        with torch.no_grad():
            self.gate.bias[2] = -1e4
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        chosen, y = self.gate(x).argmax(1), torch.zeros_like(x)
        for k, expert in enumerate(self.experts):
            y[chosen == k] = expert(input=x[chosen == k]).view(-1, expert.out_features)
        return self.head(y)


def test_subclasses_are_left_alone_and_said_so() -> None:
    found = find_sites(Experts())
    assert "Cosine" in found.alone["head"]
    assert set(found.layers) == {"gate", "experts.0", "experts.1", "experts.2"}


def test_an_expert_that_gets_nothing_stays_as_it_is() -> None:
    """The other experts are refreshed for inputs that another routing may give them."""
    model = Experts()
    found = decompose_task(tiny.task(model), drop=0.3, tolerance=None)
    assert {"experts.0", "experts.1"} & set(found.chosen)
    assert found.alone["experts.2"] == "calib calls its layer with nothing in a batch"
    assert torch.equal(found.module.experts[2].weight, model.experts[2].weight)  # type: ignore[union-attr, index]
    x = torch.randn(50, 20)
    with torch.no_grad():
        assert float((found.module(x) - model(x)).norm() / model(x).norm()) < 0.5


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
