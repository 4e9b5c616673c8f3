from __future__ import annotations

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse import (
    BadInput,
    CorruptFile,
    MismatchedModule,
    Options,
    TargetMissed,
    decompose,
    decompose_task,
    load_decomposed,
)
from noworse.format import File, write
from noworse.io import Lossless
from noworse.jobs.decompose import HELD_BACK
from noworse.model.factorised import Factorised
from noworse.propose.ranks.factoring import PRESETS, Factoring
from noworse.run.resume import NAME, write_checkpoint
from noworse.survey.subject import Subject
from tests import tiny
from tests.tiny import redundant


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


class Reader(nn.Module):
    """Sequences (B, T, 5) through a projected LSTM and a GRU cell, whose hidden weights have low rank, to logits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(5, 24, batch_first=True, proj_size=16)
        self.cell, self.head = nn.GRUCell(16, 24), nn.Linear(24, 4)
        with torch.no_grad():
            for weight in (self.lstm.weight_hh_l0, self.cell.weight_hh):
                weight.copy_(torch.randn(len(weight), 2) @ torch.randn(2, weight.shape[1]) / 6)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        self.lstm.flatten_parameters()
        return self.head(self.cell(self.lstm(x)[0][:, -1]))  # type: ignore[no-any-return]


def test_recurrent_layers_are_opened_where_their_weights_become_factors(tmp_path):
    x = torch.randn(300, 7, 5, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        y = Reader()(x).argmax(1)

    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return F.cross_entropy(model(batch[0]), batch[1], reduction="none")

    data = {"loss": loss, "calib": list(x[:150].split(50)), "verify": [(x[150:], y[150:])]}
    path = tmp_path / "reader.nwt"
    found = decompose(Reader(), **data, only=["lstm.*"], drop=0.3, tolerance=None, out=path)
    assert "lstm.hh_l0" in found.chosen
    assert found.layer_drop >= 0.3
    assert type(found.module.cell) is nn.GRUCell
    assert found.flops[1] < found.flops[0]
    assert torch.equal(load_decomposed(Reader(), path)(x), found.module(x))
    dense = Reader()
    with torch.no_grad():
        for name, parameter in dense.lstm.named_parameters():
            parameter.copy_(getattr(found.module.lstm, name))  # products of factors, and the biases that go with them
    torch.testing.assert_close(dense(x), found.module(x))
    kept = decompose(Reader(), **data, keep=["lstm.weight_hh_l0"], drop=0.2, tolerance=None)
    assert kept.alone["lstm.hh_l0"] == "it is kept"


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
        distances.add(search.mean_distance(search.at_drop(0.5)[0]))
    assert len(distances) > 1
    assert search.mean_distance(module) == min(distances)
    assert chosen


def test_a_drop_needs_no_labels_whatever_the_distillation():
    task = replace(tiny.task(redundant()), distill="mse")
    assert all(isinstance(batch, Tensor) for batch in task.calib)
    assert decompose_task(task, drop=0.4, tolerance=None).layer_drop >= 0.39


def test_the_gate_keeps_what_is_not_good_enough_from_its_place(tmp_path):
    task, out = tiny.task(redundant()), tmp_path / "d.nwt"
    with pytest.raises(TargetMissed, match="tolerance was not met") as raised:
        decompose_task(task, out, drop=0.8, tolerance=1e-9, progress=None)
    assert not out.exists()
    missed = raised.value.report
    assert not missed.passed
    assert missed.layer_drop >= 0.8
    written = decompose_task(task, out, drop=0.8, tolerance=None, progress=None)
    assert not written.passed
    assert str(written.chosen) == str(missed.chosen)
    x = torch.randn(5, 20)
    assert torch.equal(load_decomposed(redundant(), out)(x), missed.module(x))
    assert missed.save(tmp_path / "m.nwt") == (tmp_path / "m.nwt").stat().st_size
    assert json.loads(missed.to_json())["verdict"]["tolerance"] == 1e-9


def test_settings_are_honoured(tmp_path):
    task, stages = tiny.task(redundant()), []
    options = Options(confidence=0.8, looks=2, seed=7)
    found = decompose_task(task, tmp_path / "d.nwt", options=options, seed=3, tolerance=0.01,
                           progress=lambda step: stages.append(step.stage), work=tmp_path / "work")  # fmt: skip
    assert (found.verdict.confidence, found.verdict.looks) == (0.8, 2)
    assert stages[0] == "curvature of layers and the loss of every rank"
    assert stages[1:] == [f"search {k}/10" for k in range(1, 11)]
    assert not (tmp_path / "work").exists(), "nothing is left of a run that is done"
    with File(tmp_path / "d.nwt") as file:
        assert (file.settings["method"], file.settings["seed"]) == ("decompose", 3)
        assert file.verdict == found.verdict.record()
    again = decompose_task(task, tmp_path / "e.nwt", options=options, seed=3, tolerance=0.01, progress=None)
    assert str(again.chosen) == str(found.chosen)
    assert (tmp_path / "d.nwt").read_bytes() == (tmp_path / "e.nwt").read_bytes()
    write_checkpoint(tmp_path / NAME, {}, {"given": {"verb": "compress"}, "notes": {}, "position": {"stage": ""}})
    stages.clear()
    with pytest.raises(BadInput, match="cannot write"):
        decompose_task(task, tmp_path / "nowhere" / "x.nwt", progress=lambda step: stages.append(step.stage))
    assert not stages, "before any work is done"
    with pytest.raises(BadInput, match="holds another run"):
        decompose_task(task, drop=0.4, work=tmp_path, progress=None)


def test_only_and_keep_leave_layers_alone():
    def job(**extras):
        return tiny.task(tiny.mlp(128), **extras)

    by_pattern = decompose_task(job(), drop=0.2, only=["2*"], tolerance=None, progress=None)
    by_function = decompose_task(job(), drop=0.2, only=lambda name, layer: name == "2", tolerance=None, progress=None)
    assert list(by_pattern.chosen) == list(by_function.chosen) == ["2"]
    kept = decompose_task(job(keep=["0.*"]), drop=0.2, tolerance=None, progress=None)
    assert list(kept.chosen) == ["2"]
    assert kept.alone == {"0": "it is kept"}


@pytest.mark.parametrize("factors", [3, ["0"], {"0": 3}, {"0": []}, {"0": ["sideways", 4]}, {"0": [["flat"], 4]}])
def test_factors_of_a_file_that_are_none(factors, tmp_path):
    write(tmp_path / "x.nwt", Lossless(redundant().state_dict()), {"factors": factors})
    with pytest.raises(CorruptFile, match="expected a list for each layer, of one of flat, spatial, tucker"):
        load_decomposed(redundant(), tmp_path / "x.nwt")


@pytest.mark.parametrize(
    ("factors", "shapes", "message"),
    [
        ({"9": ["flat", 2]}, [], "factors of '9', .* no attribute"),
        ({"": ["flat", 2]}, [], "a Sequential, which may use"),
        ({"1": ["flat", 2]}, [], "a ReLU"),
        ({"0": ["flat", 2]}, [], "factors of '0'"),
        ({"0": ["flat", 2]}, [(2, 20)], "factors of '0'"),
        ({"0": ["flat", 2]}, [(2, 20), (48, 3)], "factors of '0'"),
        ({"0": ["flat", 2]}, [(2, 21), (48, 2)], r"make \(48, 21\), expected \(48, 20\)"),
        ({"0": ["spatial", 2]}, [(2, 20), (48, 2)], "factors of '0'"),
        ({"0": ["tucker", 2]}, [(2, 20), (2, 2), (48, 2)], "factors of '0'"),
        ({"0": ["flat", 2]}, [(2, 20), (48, 2), (1, 1)], "factors of '0'"),
        ({"0": ["flat", 2]}, [(2, 20), (48, 2)], "0.1.bias"),
    ],
)
def test_factors_that_the_module_cannot_have(factors, shapes, message, tmp_path):
    rest = {name: tensor for name, tensor in redundant().state_dict().items() if not name.startswith("0.")}
    parts = {f"0.{k}.weight": np.zeros(shape, np.float32) for k, shape in enumerate(shapes)}
    write(tmp_path / "x.nwt", Lossless({**rest, **parts}), {"factors": factors})
    with pytest.raises(MismatchedModule, match=message):
        load_decomposed(redundant(), tmp_path / "x.nwt")
