from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from benchmarks.suites.llc_nets import Judge, against


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
