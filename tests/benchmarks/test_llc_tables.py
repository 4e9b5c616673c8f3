from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from benchmarks import llc_tables
from benchmarks.llc_nets import Judge, against
from benchmarks.llc_sensitivity import Compared, correlation


def test_a_judge_compares_losses_predictions_and_divergence() -> None:
    labels = torch.tensor([0, 1])
    images = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    judge = Judge(nn.Identity(), [(images[:1], labels[:1]), (images[1:], labels[1:])])
    worse = judge.logits_judged(torch.zeros(2, 2))
    expected = math.log(2) - math.log1p(math.exp(-1))
    assert worse.mean == pytest.approx(expected)
    assert worse.top1 == -50  # of two equal logits the first counts
    p = 1 / (1 + math.exp(-1))
    assert worse.kl == pytest.approx(math.log(2) + p * math.log(p) + (1 - p) * math.log(1 - p))
    same = judge(nn.Identity())
    assert (same.mean, same.kl, same.top1) == (0, 0, 0)
    rows = {row.name: row for row in against("net", same, "rival", worse)}
    assert rows["net: default minus rival, loss"].value == pytest.approx(-expected)
    assert rows["net: default minus rival, loss"].ok
    assert rows["net: default minus rival, standard error of that"].value == pytest.approx(0, abs=1e-12)


def test_ranks_not_values_are_correlated() -> None:
    assert correlation([1.0, 2.0, 3.0], [-5.0, 0.0, 1000.0]) == pytest.approx(1)
    assert correlation([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == pytest.approx(-1)


def test_halves_of_the_truth_are_ranked_against_each_other_and_predictions_against_the_whole() -> None:
    errors = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    one = Compared({"divergence": errors}, {"divergence": 0.6}, {"loss": errors}, {"loss": (errors, errors[::-1])})
    rows = {row.name: row for row in (one + one).rows("net")}
    assert rows["net, divergence: rank correlation with the true loss"].value == pytest.approx(1)
    assert rows["net, divergence: rank correlation with the true loss"].target
    assert rows["net, one half of the images: rank correlation with the loss of the other"].value == pytest.approx(-1)
    assert rows["net, one half of the images: with the loss of the other at 4 bits"].value == pytest.approx(-1)
    assert rows["net, divergence: time of an error"].value == pytest.approx(100)  # ms


def test_tables_hold_what_was_measured_and_nothing_else() -> None:
    assert not any(part({}) for part in llc_tables.PARTS.values())
    what = "lenet5, directions of 64 images"
    values = {f"{what}: loss difference on them": -0.1, f"{what}: loss difference held out": 0.2}
    values |= {f"{what}: deviation of that between draws": 0.05}
    values |= {
        "lenet5, uniform int4: loss difference on calib": 0.3,
        "lenet5, uniform int4: loss difference held out": 0.4,
    }
    assert "| LeNet-5 | 64 | -0.10000 | +0.20000 | +0.05000 |" in llc_tables.calibration(values)
    assert "| LeNet-5 | uniform int4 | +0.30000 | +0.40000 |" in llc_tables.controls(values)
    assert not llc_tables.equal(values)
    what = "all nets, test"
    for k, kind in enumerate(("divergence", "first-order")):
        for j, truth in enumerate(("loss", "KL")):
            values[f"{what}, {kind}: rank correlation with the true {truth}"] = 0.1 + 0.4 * k + 0.2 * j
    assert not llc_tables.ranks(values)
    for truth, value in {"loss": 0.25, "KL": 0.35}.items():
        values[f"{what}, one half of the images: rank correlation with the {truth} of the other"] = value
    assert "| all nets | 0.10 | 0.30 | 0.50 | 0.70 | 0.25 | 0.35 |" in llc_tables.ranks(values)
    for k, kind in enumerate(("int8", "mixed", "float")):
        values[f"vgg_small, onnx {kind}: same top-1 as the module"] = 99.0 + k / 10
        values[f"vgg_small, onnx {kind}: bytes over those of its weights' bits"] = 1.1 + k
        values[f"vgg_small, onnx {kind}: time of 1,000 images"] = 20.0 * (k + 1)
    assert "| VGG-small | mixed | 99.10 % | 2.10 | 0.67 |" in llc_tables.integers(values)
