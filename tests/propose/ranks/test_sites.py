from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.jobs.decompose import decompose_task
from noworse.propose.ranks.sites import find_sites
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
