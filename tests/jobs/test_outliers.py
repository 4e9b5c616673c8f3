"""A few extreme weights, from model to file: they come back bit for bit, and cost the others nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from noworse.format import File
from noworse.io import load_file
from noworse.jobs.draft import Draft, Terms
from noworse.model.load import load_model
from noworse.survey.subject import Subject
from noworse.tune.options import Options
from tests.tiny import ConvNet, Language, language_task, mlp, redundant, run, task


def error_of_others(found: Tensor, original: Tensor) -> float:
    """The largest, as a share of their median magnitude; extreme ones must be the same bits."""
    original = original.detach()
    far = original.abs() > 1e3
    assert bool(far.any())
    assert torch.equal(found[far], original[far])
    return float((found - original)[~far].abs().max() / original[~far].abs().median())


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rounding", ["auto", "nearest"])
def test_a_class_that_is_switched_off_keeps_the_other_biases(tmp_path: Path, kind: torch.dtype, rounding: str) -> None:
    model: Any = mlp().to(kind)
    with torch.no_grad():
        model[2].bias[1] = -1e4
    report = run(task(model), tmp_path / "x.nwt", 3, iterations=10, rounding=rounding)
    assert error_of_others(load_file(tmp_path / "x.nwt")["2.bias"], model[2].bias) < 0.2
    assert report.verdict.mean_kl is not None
    assert report.verdict.mean_kl < 0.01
    with File(tmp_path / "x.nwt") as file:
        assert file.representation("2.bias").details == {"outliers": 1}
        assert file.representation("2.weight").details == {}


def test_extreme_weights_of_a_convolution_and_of_a_tied_tensor(tmp_path: Path) -> None:
    """A convolution whose norm is folded into it: the file holds the folded weight; a tie has one list."""
    conv = ConvNet()
    with torch.no_grad():
        conv.conv2.weight[3, 5, 1, 2] = 3e3
        conv.conv2.weight[7, 0, 0, 0] = -5e3
    run(task(conv, 1, 12, 12), tmp_path / "x.nwt", 4, iterations=10)
    loaded = load_model(ConvNet(), tmp_path / "x.nwt")
    x = torch.randn(50, 1, 12, 12)
    with torch.no_grad():
        expected, found = conv(x), loaded(x)
    assert float((found - expected).norm() / expected.norm()) < 0.05
    with File(tmp_path / "x.nwt") as file:
        assert file.representation("conv2.weight").details == {"outliers": 2}
    tied = Language()
    with torch.no_grad():
        tied.embed.weight[39, 3] = 5e3
    run(replace(language_task(tied)), tmp_path / "y.nwt", 3, iterations=10)
    tensors = load_file(tmp_path / "y.nwt")
    assert tensors["head.weight"] is tensors["embed.weight"]
    assert error_of_others(tensors["embed.weight"], tied.embed.weight) < 1.5


def test_layers_with_outliers_are_not_factored() -> None:
    found = []
    for extreme in (False, True):
        model: Any = redundant(256)
        with torch.no_grad():
            model[0].weight[3, 5] = 1e4 if extreme else 0.1
        job = task(model)
        draft = Draft(Subject(job, job.calib), Terms(Options(iterations=0, methods="auto")))
        found.append("0" in draft.plan.analyses)
    assert found == [True, False]


def test_a_mask_stays_bit_for_bit(tmp_path: Path) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(20, 64), nn.Linear(64, 4)
            low = torch.finfo(torch.float32).min
            self.mask = nn.Parameter(torch.where(torch.arange(64) % 5 > 0, 0.0, low), requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            return self.last((self.first(x) + self.mask).softmax(-1) * 20)  # type: ignore[no-any-return]

    model = Masked().eval()
    run(task(model), tmp_path / "x.nwt", 3, iterations=10)
    assert torch.equal(load_file(tmp_path / "x.nwt")["mask"], model.mask)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_layers_of_any_scale_tune(tmp_path: Path, scale: float) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.last = nn.Linear(20, 48), nn.Linear(48, 4)
            with torch.no_grad():
                self.first.weight *= scale

        def forward(self, x: Tensor) -> Tensor:
            return self.last(torch.tanh(nn.functional.linear(x, self.first.weight) / scale))  # type: ignore[no-any-return]

    report = run(task(Scaled().eval()), tmp_path / "x.nwt", 4, iterations=10)
    assert report.verdict.mean_kl is not None
    assert report.verdict.mean_kl < 0.01
