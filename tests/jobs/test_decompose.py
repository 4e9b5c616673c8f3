from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse import BadInput, decompose, decompose_task
from noworse.jobs.decompose import HELD_BACK
from noworse.model.factorised import Factorised
from noworse.propose.ranks.choose import PRESETS
from noworse.propose.ranks.factoring import Factoring
from noworse.survey.subject import Subject
from tests import tiny


def redundant(width=48, rank=4):
    """A net whose first layers have low rank but for a little noise."""
    model = tiny.mlp(width)
    with torch.no_grad():
        weight = torch.randn(width, rank) @ torch.randn(rank, 20) / 4
        model[0].weight.copy_(weight + 0.003 * torch.randn(width, 20))
    return model


def labelled(task):
    """The task with the model's own labels in calib."""
    with torch.no_grad():
        calib = [(x, task.model.eval()(x).argmax(1)) for x in task.calib]
    return tiny.Task(task.model, task.loss, calib, task.verify)


def test_a_redundant_layer_loses_its_rank_and_nothing_else():
    model = redundant()
    before = copy.deepcopy(model.state_dict())
    found = decompose_task(tiny.task(model), tolerance=0.01)
    assert found.verdict.passed
    assert found.chosen["0"].ranks[0] <= 6
    assert isinstance(found.module[0], Factorised)
    assert found.parameters[1] == sum(p.numel() for p in found.module.parameters()) < found.parameters[0]
    assert found.flops[1] < found.flops[0] == 2 * (20 * 48 + 48 * 4)
    assert found.layer_drop > 0.5
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])
    for text in ("% dropped", "ranks: 0:", "left alone" if found.alone else "no worse"):
        assert text in str(found)


def test_factors_have_the_models_dtype_mode_and_gradients():
    model = redundant().to(torch.bfloat16).train()
    model[0].weight.requires_grad_(False)
    found = decompose_task(tiny.task(model), drop=0.5, tolerance=None)
    assert {p.dtype for p in found.module.parameters()} == {torch.bfloat16}
    assert all(module.training for module in found.module.modules())
    assert not found.module[0][0].weight.requires_grad


@pytest.mark.parametrize("preset", [name for name in PRESETS if name != "paper"])
def test_a_drop_is_met_by_every_weighting(preset):
    found = decompose_task(tiny.task(redundant()), drop=0.4, preset=preset, tolerance=None)
    assert 0.4 <= found.layer_drop < 0.6


def test_the_default_loses_least_at_equal_drop():
    losses = {
        preset: decompose_task(tiny.task(tiny.mlp(128)), drop=0.6, preset=preset, tolerance=None).verdict.mean_kl
        for preset in ("default", "svd", "fwsvd", "asvd")
    }
    assert losses["default"] == min(losses.values())


def test_the_paper_needs_labels_and_leaves_convolutions_alone():
    with pytest.raises(BadInput, match="needs calib with labels"):
        decompose_task(tiny.task(redundant()), preset="paper", tolerance=None)
    task = labelled(tiny.task(redundant()))
    found = decompose_task(task, preset="paper", tolerance=None)
    for name in found.chosen:
        assert isinstance(task.model.get_submodule(name), nn.Linear)
    with torch.no_grad():
        before, after = (torch.cat([tiny.loss(m, batch) for batch in task.calib]).mean() for m in
                         (task.model, found.module))  # fmt: skip
    assert after <= before + 1e-6


class Mixed(nn.Module):
    """Every reason to leave a layer alone."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.grouped = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 8, 3, groups=2)
        self.depthwise, self.fc = nn.Conv2d(8, 8, 3, groups=8), nn.Linear(8, 24)
        self.tied, self.idle, self.row = nn.Linear(8, 24), nn.Linear(9, 9), nn.Linear(24, 1)
        self.tied.weight = self.fc.weight
        self.head = nn.Linear(24, 4)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.depthwise(F.relu(self.grouped(F.relu(self.conv(x)))))).mean((2, 3))
        x = F.relu(self.fc(x)) + F.relu(self.tied(x))
        return self.head(x) + self.row(x)  # type: ignore[no-any-return]


def test_what_cannot_be_decomposed_is_left_alone_and_said_so():
    found = decompose_task(tiny.task(Mixed(), 8, 9, 9), drop=0.3, tolerance=None)
    assert set(found.chosen) <= {"conv", "head"}
    reasons = {"grouped": "2 groups", "depthwise": "8 groups", "fc": "tied", "tied": "tied", "idle": "never calls",
               "row": "no rank is below break-even"}  # fmt: skip
    assert {name for name in reasons if reasons[name] in found.alone[name]} == set(reasons)
    assert "left alone: grouped" in str(found)


def test_zero_weights_and_idle_inputs():
    model = redundant()
    with torch.no_grad():
        model[2].weight.zero_()
    task = tiny.task(model)
    for batch in (*task.calib, *(x for x, _ in task.verify)):
        batch[:, 10:] = 0  # a singular covariance
    found = decompose_task(task, tolerance=0.01)
    assert found.verdict.passed
    assert all(bool(torch.isfinite(p).all()) for p in found.module.parameters())


def test_tied_embeddings_stay_and_attention_is_opened():
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.embed = nn.Embedding(20, 16)
            self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
            self.head = nn.Linear(16, 20, bias=False)
            self.head.weight = self.embed.weight
            self.eval()

        def forward(self, ids: Tensor) -> Tensor:
            return self.head(self.layer(self.embed(ids)))  # type: ignore[no-any-return]

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0]).transpose(1, 2), batch[1], reduction="none").mean(1)

    ids = torch.randint(0, 20, (300, 6), generator=torch.Generator().manual_seed(0))
    verify = list(zip(ids[100:].split(50), ids[100:].roll(1, 1).split(50), strict=True))
    found = decompose(Net(), loss=loss, calib=list(ids[:100].split(50)), verify=verify, drop=0.3, tolerance=None)
    assert {"embed", "head"} <= set(found.alone)
    assert set(found.chosen) <= {*(f"layer.self_attn.{part}" for part in ("q", "k", "v", "out")), "layer.linear1",
                                 "layer.linear2"}  # fmt: skip
    assert found.module(ids).shape == (300, 6, 20)
    copy.deepcopy(found.module)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "best"}, "unknown preset 'best'"),
        ({"drop": 1.5}, "drop is 1.5"),
        ({"drop": "20%"}, "drop is '20%'"),
        ({"drop": 0.2, "preset": "paper"}, "expected one of them"),
        ({"drop": 0.97}, "at rank 1"),
        ({"only": lambda name, layer: False}, "no layer can be decomposed"),
        ({"tolerance": "-1%"}, "tolerance"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(BadInput, match=message):
        decompose_task(tiny.task(redundant()), **arguments)


def test_what_judges_must_not_have_chosen():
    job = tiny.task(tiny.mlp())
    with pytest.raises(BadInput, match="samples of verify are in calib too"):
        decompose_task(replace(job, calib=job.verify))


def test_the_metric_is_taken_whose_module_moves_held_back_outputs_least():
    task = tiny.task(redundant(rank=12))
    search = Factoring(Subject(task, list(task.calib), HELD_BACK), None, "default")
    module, chosen = search.at_drop(0.5)
    distances = set()
    for spread in search.spreads:
        search.spreads = (spread,)
        search.__dict__.pop("offers", None)
        distances.add(search.distance(search.at_drop(0.5)[0]))
    assert len(distances) > 1
    assert search.distance(module) == min(distances)
    assert chosen


def test_a_drop_needs_no_labels_whatever_the_distillation():
    task = replace(tiny.task(redundant()), distill="mse")
    assert all(isinstance(batch, Tensor) for batch in task.calib)
    assert decompose_task(task, drop=0.4, tolerance=None).layer_drop >= 0.39
