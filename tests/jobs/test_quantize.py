from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import noworse
import noworse.task.data
from noworse.errors import BadInput, CorruptFile, MismatchedModule, TargetMissed
from noworse.format import File, write
from noworse.io import Lossless
from noworse.jobs.quantize import HELD_BACK, Quantization, quantize_task
from noworse.model.quantized import (
    OUTPUT,
    Range,
    activation_ranges,
    add_rounding,
    from_settings,
    remove_rounding,
    to_settings,
)
from noworse.propose.bits.priced import Priced
from noworse.propose.bits.proposals import Proposal, propose, true_costs
from noworse.propose.bits.sites import survey_inputs
from noworse.propose.grids.means import correct_biases, output_means
from noworse.run.resume import NAME, write_checkpoint
from noworse.survey.subject import Subject
from noworse.task.distances import KL
from noworse.task.task import Task
from noworse.tune.options import Options
from tests.tiny import ConvNet, Language, Odd, language_task, mlp, task


def labelled(job: Task) -> Task:
    """The same with calibration data that has labels, as ``paper`` needs."""
    whole = list(job.verify)
    return replace(job, calib=whole[:2], verify=whole[2:])


@pytest.fixture(scope="module")
def conv() -> Quantization:
    return quantize_task(task(ConvNet(), 1, 12, 12), tolerance=0.05)


def test_a_quantised_module_is_no_worse_and_small(conv: Quantization) -> None:
    assert conv.verdict.passed
    assert 0.6 < conv.drop < 0.95
    assert conv.mean_bits == sum(r.weights * r.count for r in conv.table) / sum(r.count for r in conv.table)
    assert {row.activations for row in conv.table} == {8}
    for proposal, row in zip(conv.proposals, conv.table, strict=True):
        weight = conv.module.get_parameter(proposal.name)
        assert all(len(channel.unique()) <= 2**row.weights - 1 for channel in weight)
    assert "conv2: weights" in str(conv)


def test_a_file_gives_back_the_same_module(conv: Quantization, tmp_path: Path) -> None:
    path = tmp_path / "a.nwt"
    size = conv.save(path)
    assert size == path.stat().st_size
    loaded = noworse.load_quantized(ConvNet(), path)
    x = torch.randn(64, 1, 12, 12)
    assert torch.equal(loaded(x), conv.module(x))
    assert activation_ranges(loaded) == activation_ranges(conv.module)
    assert torch.equal(copy.deepcopy(loaded)(x), loaded(x))
    remove_rounding(loaded)
    assert not torch.equal(loaded(x), conv.module(x))
    plain = noworse.load_model(ConvNet(), path)  # weights alone: an ordinary net
    assert torch.equal(plain(x), loaded(x))


def test_the_callers_model_is_untouched() -> None:
    model = ConvNet().train()
    before = {name: t.clone() for name, t in model.state_dict().items()}
    quantize_task(task(model, 1, 12, 12), bits=4.5, tolerance=None)
    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())
    assert model.training
    assert not any(layer._forward_pre_hooks for layer in model.modules())


def test_bits_are_kept_to_and_more_bits_lose_less() -> None:
    job = task(ConvNet(), 1, 12, 12)
    found = [quantize_task(job, bits=bits, activations=False, tolerance=None) for bits in (2.5, 4, 8)]
    assert all(q.mean_bits <= bits for q, bits in zip(found, (2.5, 4, 8), strict=True))
    kl = [q.verdict.mean_kl for q in found]
    assert kl[0] > kl[1] > kl[2]  # type: ignore[operator]
    assert not activation_ranges(found[0].module)
    with pytest.raises(BadInput, match="smallest choice"):
        quantize_task(job, bits=1.9, tolerance=None)
    fixed = quantize_task(job, bits={"conv1": 8, "fc": 4}, activations=6, tolerance=None).table
    assert [(r.name, r.weights, r.activations) for r in fixed] == [("conv1", 8, 6), ("conv2", 32, 6), ("fc", 4, 6)]


def test_costs_are_measured_on_samples_that_rounding_is_not_fitted_to() -> None:
    job = task(ConvNet(), 1, 12, 12)
    calib = list(torch.randn(256, 1, 12, 12).split(16))
    search = Priced(Subject(job, calib, HELD_BACK))
    seen = {row.numpy().tobytes() for batch in search.batches(10**9) for row in batch}
    unseen = {row.numpy().tobytes() for batch in search.unseen(10**9) for row in batch}
    assert len(unseen) == 64
    assert not seen & unseen
    few = Priced(Subject(job, calib[:2], HELD_BACK))  # a quarter of 32 samples would say little
    assert sum(map(len, few.unseen(10**9))) == 32


@pytest.mark.parametrize("cost", ["mse", "trace", "fisher"])
def test_other_costs_allocate_too(cost: str) -> None:
    assert quantize_task(task(mlp()), bits=4, cost=cost, tolerance=None).mean_bits <= 4


def test_llc_as_published() -> None:
    job = labelled(task(ConvNet(), 1, 12, 12))
    found = quantize_task(job, bits=8, preset="paper", tolerance=None)
    assert all(row.activations in (None, row.weights) for row in found.table)
    assert {r.rounding for r in activation_ranges(found.module).values()} <= {"up", "down"}
    with pytest.raises(BadInput, match="labels"):
        quantize_task(task(ConvNet(), 1, 12, 12), bits=8, preset="paper", tolerance=None)


def test_costs_are_true_losses_and_pairs_what_is_beyond_their_sum() -> None:
    job = task(mlp())
    model = job.model
    seen = survey_inputs(model, [lambda: model(next(iter(job.calib)))])
    sites = {site.key: site for site in seen.sites}
    flat = [p for site in seen.sites for p in propose(site, (5, 6), None)]
    x = torch.cat(list(job.calib))
    costs, pairs = true_costs(model, noworse.task.data.forward, [x], sites, flat, KL())
    first, second = flat[0], flat[3]
    together = copy.deepcopy(model)
    with torch.no_grad():
        for p in (first, second):
            assert p.written is not None
            together.get_parameter(p.name).copy_(p.decode())
        correct_biases(together, output_means(model, ["0", "2"], lambda: model(x))[1], lambda: together(x))
        true = float(KL()(together(x), model(x)).mean())
    assert costs[2] == costs[5] == 0
    assert true == pytest.approx(costs[0] + costs[3] + pairs[0, 3], rel=0.1)
    assert pairs[0, 0] == pytest.approx(2 * costs[0], rel=0.1)  # ½ dzᵀ A dz is the loss of small changes
    alone = copy.deepcopy(model)
    with torch.no_grad():
        assert first.written is not None
        alone.get_parameter(first.name).copy_(first.decode())
        _, means = output_means(model, ["0"], lambda: model(x))
        correct_biases(alone, means, lambda: alone(x))
        assert costs[0] == pytest.approx(float(KL()(alone(x), model(x)).mean()), rel=1e-3)
    assert isinstance(flat[0], Proposal)
    assert first.representation is not None
    assert first.written is not None
    assert np.array_equal(first.representation.decode(), first.decode().numpy())


class Twice(nn.Module):
    """A layer called twice, one never called, one known by two names, and weights that only functional code reads."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.mix, self.idle = nn.Linear(20, 16), nn.Linear(16, 16), nn.Linear(3, 3)
        self.alias = self.mix
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.last = nn.Linear(16, 4)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = self.alias(torch.relu(self.mix(torch.relu(self.first(x)))))[:, None]
        return self.last(self.attention(x, x, x, need_weights=False)[0][:, 0])  # type: ignore[no-any-return]


class Residual(nn.Module):
    """Convolutions that end in a sum, in an activation, and in the next layer."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.three = (nn.Conv2d(1 if k == 0 else 4, 4, 3, padding=1) for k in range(3))
        self.norm, self.head = nn.BatchNorm2d(4), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.one(x))
        x = F.relu(x + self.three(self.two(x)))
        return self.head(F.relu(x + self.norm(self.two(x))).mean((2, 3)))


def test_outputs_that_end_in_sums_are_rounded_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    found = quantize_task(task(Residual(), 1, 12, 12), bits=8, tolerance=None)
    ranges = activation_ranges(found.module)
    assert {name for name in ranges if name.endswith(OUTPUT)} == {"three" + OUTPUT, "norm" + OUTPUT}
    assert {"one", "two", "three", "head"} < set(ranges)
    found.save(tmp_path / "a.nwt")
    loaded, x = noworse.load_quantized(Residual(), tmp_path / "a.nwt"), torch.randn(5, 1, 12, 12)
    assert activation_ranges(copy.deepcopy(loaded)) == ranges
    assert torch.equal(loaded(x), found.module(x))
    step = ranges["three" + OUTPUT].scale
    levels = loaded.three(loaded.two(F.relu(loaded.one(x)))) / step
    assert torch.allclose(levels, levels.round(), atol=1e-3)
    remove_rounding(loaded)
    assert not activation_ranges(loaded)
    plain = quantize_task(task(Residual(), 1, 12, 12), bits=8, activations=False, tolerance=None)
    assert not activation_ranges(plain.module)


@pytest.mark.parametrize(("weight", "clipped"), [(30.0, False), (0.0, True)])
def test_rare_large_inputs_are_clipped_only_where_they_do_not_matter(weight: float, clipped: bool) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(64, 4)
    with torch.no_grad():
        layer.weight[:, 0] = weight * torch.tensor([1.0, -1.0, 1.0, -1.0])
    x = torch.randn(512, 64)
    x[::32, 0] = 14.0
    y = layer(x).argmax(1)
    job = Task(
        nn.Sequential(layer),
        lambda m, b: F.cross_entropy(m(b[0]), b[1], reduction="none"),
        [x], [(0.9 * x, y)], distill="mse",
    )  # fmt: skip
    found = activation_ranges(quantize_task(job, bits=8, activations=4, tolerance=None).module)["0"]
    assert ((15 - found.zero) * found.scale < 12) == clipped


def test_what_hooks_cannot_see_is_listed() -> None:
    found = quantize_task(task(Twice()), bits=8, tolerance=None)
    assert [row.name for row in found.table] == ["first", "mix", "last"]
    assert set(found.alone) == {"idle.weight", "attention.in_proj_weight", "attention.out_proj.weight"}
    assert "never calls" in found.alone["idle.weight"]
    assert "hooks" in found.alone["attention.in_proj_weight"]


def test_dict_inputs_tied_weights_and_integers(tmp_path: Path) -> None:
    found = quantize_task(language_task(Language()), bits=8, tolerance=0.1)
    assert [row.name for row in found.table] == ["embed", "mix"]
    assert set(activation_ranges(found.module)) == {"mix", "head"}  # those of embed are integers
    found.save(tmp_path / "a.nwt")
    loaded: Any = noworse.load_quantized(Language(), tmp_path / "a.nwt")
    assert loaded.head.weight is loaded.embed.weight
    ids = torch.randint(0, 40, (3, 5))
    assert torch.equal(loaded(ids, torch.ones(3, 5))["logits"], found.module(ids, torch.ones(3, 5))["logits"])


def test_odd_modules_and_kept_tensors() -> None:
    found = quantize_task(task(Odd(), keep=["last.*"]), bits=6, tolerance=None)
    assert [row.name for row in found.table] == ["first"]
    assert found.alone["last.weight"] == "it is kept"
    assert "never calls" in found.alone["spare.weight"]


def test_constant_and_unbounded_inputs() -> None:
    class Constant(nn.Module):
        def __init__(self, value: float) -> None:
            super().__init__()
            self.net, self.value = mlp(), value
            self.side = nn.Linear(3, 4)

        def forward(self, x: Tensor) -> Tensor:
            side = self.side(torch.full((len(x), 3), self.value))
            return self.net(x) + side.nan_to_num(0, 0, 0)  # type: ignore[no-any-return]

    for value in (0.0, -2.5):
        found = quantize_task(task(Constant(value)), bits=8, tolerance=None)
        assert found.module(torch.zeros(2, 20)).isfinite().all()
        given = activation_ranges(found.module)["side"]
        assert float(given(torch.tensor([value]))) == pytest.approx(value, abs=0.02)
    with pytest.raises(BadInput, match="'side' are not finite"):
        quantize_task(task(Constant(float("inf"))), bits=8, tolerance=None)


def test_ranges_keep_zero_and_round_their_way() -> None:
    x = torch.linspace(-1.3, 2.9, 1001)
    for way, low, high in (("nearest", -0.5, 0.5), ("up", 0, 1), ("down", -1, 0)):
        values = Range.covering(-1.0, 3.0, 4, way)
        assert float(values(torch.zeros(1))) == 0
        inside = (x > -0.99) & (x < 2.9)
        error = (values(x) - x)[inside] / values.scale
        assert low - 1e-4 <= float(error.min()) <= float(error.max()) <= high + 1e-4
        assert len(values(x).unique()) <= 16
    assert from_settings(to_settings({"a": values})) == {"a": values}


@pytest.mark.parametrize(
    "settings",
    [3, {"a": 3}, {"a": [1.0]}, {"a": [0.0, 1, 8]}, {"a": [float("inf"), 1, 8]}, {"a": [1.0, 256, 8]},
     {"a": [1.0, 0, 64]}, {"a": [1.0, 0, 8, "sideways"]}, {"a": ["1", 0, 8]}, {"a": [1.0, True, 8]}],
)  # fmt: skip
def test_hostile_settings(settings: Any) -> None:
    with pytest.raises(CorruptFile, match="activation ranges"):
        from_settings(settings)


def test_bad_input() -> None:
    job = task(mlp())
    for given, message in (
        ({"preset": "best"}, "unknown preset"), ({"cost": "guess"}, "unknown cost"), ({"bits": -1}, "bits is -1"),
        ({"bits": {"nowhere": 4}}, "nowhere"), ({"bits": {"0": 5}}, "one of 2, 3, 4"), ({"activations": 1}, "2 to 16"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=message):
            quantize_task(job, **given)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no layer can be quantised"):
        survey_inputs(nn.ReLU(), [])
    with pytest.raises(MismatchedModule, match="nowhere"):
        add_rounding(mlp(), {"nowhere": Range(1.0, 0, 8)})


def test_what_judges_must_not_have_chosen() -> None:
    job = task(mlp())
    with pytest.raises(BadInput, match="samples of verify are in calib too"):
        quantize_task(replace(job, calib=job.verify))


def test_no_name_of_a_layer_is_taken_for_that_of_an_output() -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.add_module("conv", nn.Conv2d(1, 4, 3, padding=1))
            self.add_module("conv output", nn.Conv2d(4, 4, 3, padding=1))
            self.fc = nn.Linear(4, 4)
            self.eval()

        def forward(self, x: Tensor) -> Tensor:
            first, second = self.get_submodule("conv"), self.get_submodule("conv output")
            x = first(x)
            return self.fc((second(torch.tanh(x)) + x).mean((2, 3)))  # type: ignore[no-any-return]

    found = quantize_task(task(Named(), 1, 8, 8), bits=8)
    assert {"conv", "conv output", "conv" + OUTPUT} <= activation_ranges(found.module).keys()


def test_the_gate_keeps_what_is_not_good_enough_from_its_place(tmp_path: Path) -> None:
    job, out = task(ConvNet(), 1, 12, 12), tmp_path / "q.nwt"
    with pytest.raises(TargetMissed, match="tolerance was not met") as raised:
        quantize_task(job, out, bits=2.5, tolerance=1e-9, progress=None)
    assert not out.exists()
    missed = raised.value.report
    assert not missed.passed
    assert missed.mean_bits <= 2.5
    written = quantize_task(job, out, bits=2.5, tolerance=None, progress=None)
    assert written.table == missed.table
    x = torch.randn(5, 1, 12, 12)
    assert torch.equal(noworse.load_quantized(ConvNet(), out)(x), missed.module(x))
    told = json.loads(quantize_task(job, bits={"fc": 4}, tolerance=None, progress=None).to_json())
    assert [row["cost"] for row in told["table"]] == [None] * 3


def test_settings_are_honoured(tmp_path: Path) -> None:
    job, stages = task(mlp()), []
    options = Options(confidence=0.8, looks=2, seed=7)
    asked: dict[str, Any] = {"options": options, "seed": 3, "tolerance": "20%"}
    found = quantize_task(job, tmp_path / "q.nwt", progress=lambda step: stages.append(step.stage),
                          work=tmp_path / "work", **asked)  # fmt: skip
    assert (found.verdict.confidence, found.verdict.looks) == (0.8, 2)
    assert stages == ["propose bits and measure what they cost", *(f"search {k}/9" for k in range(1, 10))]
    assert not (tmp_path / "work").exists(), "nothing is left of a run that is done"
    with File(tmp_path / "q.nwt") as file:
        assert (file.settings["method"], file.settings["seed"]) == ("quantize", 3)
        assert file.verdict == found.verdict.record()
    again = quantize_task(job, tmp_path / "r.nwt", progress=None, **asked)
    assert again.table == found.table
    assert (tmp_path / "q.nwt").read_bytes() == (tmp_path / "r.nwt").read_bytes()
    write_checkpoint(tmp_path / NAME, {}, {"given": {"verb": "compress"}, "notes": {}, "position": {"stage": ""}})
    stages.clear()
    with pytest.raises(BadInput, match="cannot write"):
        quantize_task(job, tmp_path / "nowhere" / "x.nwt", progress=lambda step: stages.append(step.stage))
    assert not stages, "before any work is done"
    with pytest.raises(BadInput, match="holds another run"):
        quantize_task(job, bits=4, work=tmp_path, progress=None)


@pytest.mark.parametrize(
    ("ranges", "kind", "message"),
    [
        ({"0": [1.0, 256, 8]}, CorruptFile, "activation ranges cannot be read"),
        (["0"], CorruptFile, "activation ranges cannot be read"),
        ({"7": [1.0, 0, 8]}, MismatchedModule, "no layers 7 in the module"),
    ],
)
def test_hostile_settings_of_a_file(ranges: Any, kind: type[Exception], message: str, tmp_path: Path) -> None:
    write(tmp_path / "x.nwt", Lossless(mlp().state_dict()), {"activations": ranges})
    with pytest.raises(kind, match=message):
        noworse.load_quantized(mlp(), tmp_path / "x.nwt")


@pytest.mark.parametrize("scale", [1e-20, 1e30])
def test_layers_of_any_scale(scale: float) -> None:
    """Of the scale that the next layer undoes: what is chosen, and lost, is that of an ordinary net."""

    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net: Any = mlp(16)
            with torch.no_grad():
                self.net[0].weight *= scale
                self.net[0].bias *= scale

        def forward(self, x: Tensor) -> Tensor:
            return self.net[2](self.net[1](self.net[0](x) / scale))  # type: ignore[no-any-return]

    asked: Any = {"bits": 6, "tolerance": None, "progress": None}
    found, plain = quantize_task(task(Scaled()), **asked), quantize_task(task(mlp(16)), **asked)
    assert abs(found.verdict.mean_difference - plain.verdict.mean_difference) < 0.01
