from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.propose.bits.sites import KEPT, Values, survey_inputs


class Residual(nn.Module):
    """A block whose second convolution ends in a sum, a tied pair, a layer that is never called and a bare weight."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 2, 3, padding=1), nn.Conv2d(2, 2, 3, padding=1)
        self.norm, self.idle = nn.BatchNorm2d(2), nn.Linear(2, 2)
        self.head, self.tied = nn.Linear(2, 2), nn.Linear(2, 2)
        self.tied.weight = self.head.weight
        self.bare = nn.Parameter(torch.ones(2, 2))
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.norm(self.second(self.first(x)))
        z: Tensor = self.tied(self.head(y.mean((2, 3)))) @ self.bare
        return z


def test_sites_inputs_and_sums() -> None:
    module, x = Residual(), torch.randn(5, 2, 4, 4)
    found = survey_inputs(module, [lambda: module(x), lambda: module(3 * x)], ["first.weight"])
    assert [(site.key, site.layers) for site in found.sites] == [
        ("second.weight", ("second",)), ("head.weight", ("head", "tied")),
    ]  # fmt: skip
    assert found.alone["first.weight"] == "it is kept"
    assert set(found.alone) == {"first.weight", "idle.weight", "bare"}
    assert set(found.sums) == {"norm"}
    assert found.inputs["first"].low == pytest.approx(min(float(x.min()), 3 * float(x.min())))
    assert len(found.inputs["first"].sample) == 2 * x.numel()


def test_weights_of_recurrent_layers_are_sites_and_their_inputs_are_not_rounded() -> None:
    module = nn.ModuleDict({"head": nn.Linear(3, 2), "rnn": nn.LSTM(4, 5, proj_size=3), "idle": nn.GRUCell(2, 2)})
    run = lambda: module["head"](module["rnn"](torch.randn(6, 2, 4))[0])  # noqa: E731
    found = survey_inputs(module, [run], ["rnn.weight_hr_l0"])
    assert [(site.name, site.key, site.layers) for site in found.sites] == [
        ("head", "head.weight", ("head",)),
        ("rnn.weight_ih_l0", "rnn.weight_ih_l0", ()),
        ("rnn.weight_hh_l0", "rnn.weight_hh_l0", ()),
    ]
    assert set(found.alone) == {"rnn.weight_hr_l0", "idle.weight_ih", "idle.weight_hh"}
    assert set(found.inputs) == {"head"}


def test_samples_of_many_values_are_few() -> None:
    seen = Values()
    for _ in range(30):
        seen.add(torch.randn(100_000))
    assert KEPT <= len(seen.sample) < 1.2 * KEPT


def test_nets_that_offer_nothing() -> None:
    with pytest.raises(BadInput, match="no layer can be quantised"):
        survey_inputs(nn.ReLU(), [])
    module = nn.Linear(3, 3)
    with pytest.raises(BadInput, match="not finite"):
        survey_inputs(nn.Sequential(module), [lambda: nn.Sequential(module)(torch.full((1, 3), torch.nan))])
