from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.errors import BadInput
from noworse.format import File
from noworse.jobs.compress import compress_task
from noworse.survey.capture import watching
from noworse.task import data
from noworse.task.distances import KL
from noworse.task.task import Task
from noworse.tune.objective import Features, Objective, Weights, choose_features, variances
from noworse.tune.options import Options
from tests.tiny import ConvNet, Language, language_task, loss, mlp, run, task
from zoo.nets import NETS


def seen(module: nn.Module) -> Tensor:
    return module(torch.randn(4, 1, 28, 28))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("net", "expected"),
    [
        ("resnet20", ["layer1", "layer2", "layer3"]),
        ("vit_tiny", ["blocks.1", "blocks.3", "blocks"]),
        ("lenet5", ["conv1", "conv2", "fc1"]),
        ("lenet300", ["fc1", "fc2"]),
        ("mobilenetv2", ["features.8", "features.14", "features"]),
    ],
)
def test_chosen_are_blocks_before_the_head_evenly_by_depth(net: str, expected: list[str]) -> None:
    torch.manual_seed(0)
    assert choose_features(NETS[net]().eval(), seen) == expected


def test_hooks_are_gone_afterwards_even_after_a_failure() -> None:
    model = mlp()
    choose_features(model, lambda module: module(torch.randn(4, 20)))
    with pytest.raises(ZeroDivisionError), watching(model, ["0", ""]):
        raise ZeroDivisionError
    with pytest.raises(RuntimeError):
        choose_features(model, lambda module: module(torch.randn(4, 19)))
    assert not any(module._forward_hooks for module in model.modules())


def test_watching_sees_every_call() -> None:
    model, x = mlp(), torch.randn(4, 20)
    with watching(model, ["0", ""]) as calls:
        y = model(x)
        model(x)
    assert len(calls["0"]) == len(calls[""]) == 2
    assert calls[""][0] is y
    assert torch.equal(calls["0"][1], model[0](x))  # type: ignore[index]


def test_named_modules_come_in_their_own_order() -> None:
    names = choose_features(ConvNet(), lambda m: m(torch.randn(2, 1, 12, 12)), ("fc", "conv*"))
    assert names == ["conv1", "conv2", "fc"]


class Odd(nn.Module):
    """One module is called twice, one never, one returns no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.never, self.silent = nn.Linear(20, 20), nn.Linear(20, 20), Silent()

    def forward(self, x: Tensor) -> Tensor:
        self.silent(x)
        return self.twice(self.twice(x))  # type: ignore[no-any-return]


class Silent(nn.Module):
    def forward(self, x: Tensor) -> Any:
        return "nothing"


@pytest.mark.parametrize(
    ("patterns", "message"),
    [
        (("twise",), "no module for features matches 'twise': expected a name such as twice"),
        (("twice",), "module 'twice' is called 2 times: expected features of a module that is called once"),
        (("never",), "module 'never' is called 0 times"),
        (("silent",), "module 'silent' returns no tensor"),
        (("auto",), "no inner module that is called once: expected names of modules"),
    ],
)
def test_modules_that_cannot_be_distilled(patterns: tuple[str, ...], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        choose_features(Odd(), lambda module: module(torch.randn(4, 20)), patterns)


def test_variances_are_over_samples() -> None:
    x = torch.randn(5000, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 2.0, 3.0]) + 7
    assert variances([x, torch.ones(4, 2), torch.ones(1, 2)]) == [pytest.approx(14 / 3, rel=0.05), 1.0, 1.0]


def test_the_weighted_sum_against_its_parts() -> None:
    teacher, student = mlp(), mlp()
    with torch.no_grad():
        student[0].weight.mul_(1.1)  # type: ignore[operator,union-attr]
    batch = torch.randn(30, 20), torch.arange(30) % 4
    weights = Weights(0.7, 0.2, 0.1)
    objective = Objective(KL(), data.forward, weights, Features(["0", "1"], [2.0, 3.0]), loss, True)
    found = objective(student, batch, objective.observe(teacher, batch))
    first, other = student[0](batch[0]), teacher[0](batch[0])  # type: ignore[index]
    parts = (first - other).square().mean(1) / 2, (F.relu(first) - F.relu(other)).square().mean(1) / 3
    expected = 0.7 * KL()(student(batch[0]), teacher(batch[0])) + 0.1 * sum(parts)
    expected += 0.1 * F.cross_entropy(student(batch[0]), batch[1], reduction="none")
    assert torch.allclose(found, expected, atol=1e-6)
    gradient = torch.autograd.grad(found.mean(), student[0].weight)[0]  # type: ignore[union-attr,arg-type]
    assert torch.allclose(gradient, torch.autograd.grad(expected.mean(), student[0].weight)[0], atol=1e-6)  # type: ignore[union-attr,arg-type]


def test_labels_that_count_judge_alone() -> None:
    teacher, student = mlp(), mlp()
    batch = torch.randn(30, 20), torch.arange(30) % 4
    for weight in (0.0, 0.1):
        objective = Objective(KL(), data.forward, Weights(0.7, 0.0, weight), Features(), loss)
        original = objective.observe(teacher, batch)
        expected = loss(student, batch) if weight else objective(student, batch, original)
        assert torch.allclose(objective.judged(student, batch, original), expected)


@pytest.mark.parametrize("own_call", [True, False])
def test_the_model_runs_once_where_its_loss_shows_the_outputs(own_call: bool) -> None:
    model, runs = mlp(), []
    model.register_forward_hook(lambda *call: runs.append(call))
    objective = Objective(KL(), data.forward, Weights(1, 1, 1), Features(["0"], [1.0]), loss, own_call)
    batch = torch.randn(3, 20), torch.zeros(3).long()
    seen = objective.observe(model, batch, labelled=True)
    assert len(runs) == (1 if own_call else 2)
    assert torch.equal(seen.outputs, model(batch[0]))
    assert torch.equal(seen.features[0], model[0](batch[0]))  # type: ignore[index]


def labelled(model: nn.Module, *shape: int, **extras: Any) -> Task:
    """A task whose calib has labels: those that the model itself gives."""
    plain = task(model, *shape, **extras)
    return replace(plain, calib=[(x, model(x).argmax(1)) for x in plain.calib])


def test_labels_pull_towards_themselves(tmp_path: Path) -> None:
    """With labels that are all 0, more weight on them makes the file predict 0 more often."""
    job = task(mlp())
    job = replace(job, calib=[(x, torch.zeros(len(x)).long()) for x in job.calib])
    shares = []

    def share(model: nn.Module, batches: Any) -> float:
        return float(torch.cat([model(x).argmax(1) for x, _ in batches]).eq(0).float().mean())

    for weight in (0.0, 2.0):
        counted = replace(job, metric=share)
        report = run(counted, tmp_path / "x.nwt", 8, iterations=150, label_weight=weight)
        shares.append(report.verdict.metric_compressed)
    assert shares[1] > shares[0] + 0.1  # type: ignore[operator]


@pytest.mark.parametrize(
    "options",
    [
        {"features": ("auto",), "feature_weight": 0.5},
        {"features": ("conv1", "fc"), "distill_weight": 0.0},
        {"label_weight": 1.0, "distill_weight": 0.0},
        {"label_weight": 0.3, "features": ("bn2",)},
        {"distill": "mse"},
    ],
    ids=str,
)
def test_every_objective_makes_a_file_and_is_recorded(tmp_path: Path, options: dict[str, Any]) -> None:
    model = ConvNet()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    report = run(labelled(model, 1, 12, 12), tmp_path / "x.nwt", 6, iterations=60, **options)
    assert report.verdict.mean_kl is not None
    assert report.verdict.mean_kl < 0.2
    assert report.ratio >= 6
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
    with File(tmp_path / "x.nwt") as file:
        assert file.settings == report.settings
        expected = {"bn1", "bn2"} if options.get("features") == ("auto",) else set(options.get("features", ()))
        assert set(file.settings.get("features", ())) == expected  # type: ignore[union-attr]


def test_features_of_a_folded_net_start_at_zero(tmp_path: Path) -> None:
    """The teacher is folded like the student: at a fine grid nothing is left to distil, in convolutions neither."""
    losses: list[float] = []
    options = Options(iterations=25, distill_weight=0.0, features=("conv*",))
    compress_task(
        task(ConvNet(), 1, 12, 12),
        tmp_path / "x.nwt",
        target=2.6,
        tolerance=1.0,
        options=options,
        progress=lambda step: losses.append(step.loss),
    )
    assert losses[0] < 1e-4


def test_language_models(tmp_path: Path) -> None:
    """Features over positions in batches of different lengths, labels in a mapping."""
    model = Language()
    assert run(language_task(model), tmp_path / "x.nwt", 4, features=("auto",), label_weight=0.1).ratio >= 4


NO_LABELS = "the task's loss fails on calib .*: expected batches with labels where label_weight is set"


def without(key: str) -> Task:
    job = language_task(Language())
    return replace(job, calib=[{k: v for k, v in batch.items() if k != key} for batch in job.calib])  # type: ignore[union-attr]


def without_gradient(model: nn.Module, batch: Any) -> Tensor:
    return loss(model, batch).detach()


@pytest.mark.parametrize(
    ("job", "options", "message"),
    [
        (lambda: task(mlp()), {"label_weight": 1.0}, NO_LABELS),
        (lambda: without("labels"), {"label_weight": 1.0}, r"fails on calib \(KeyError: 'labels'\).*with labels"),
        (lambda: labelled(mlp(), loss=without_gradient), {"label_weight": 1.0}, "has no gradient: expected a diff"),
        (lambda: task(mlp()), {"features": ("4",)}, "no module for features matches '4': expected a name such as"),
        (lambda: task(mlp()), {"features": ("layer*",)}, r"matches 'layer\*'"),
        (lambda: task(mlp()), {"layer_bits": {"x.*": (1, 2)}}, "no quantised tensor for layer_bits matches 'x"),
    ],
)
def test_what_cannot_be_asked_for(tmp_path: Path, job: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        run(job(), tmp_path / "x.nwt", 4, **options)
    assert list(tmp_path.iterdir()) == []
