from __future__ import annotations

import copy
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.errors import BadInput, CorruptFile, MismatchedModule
from noworse.io import save_file
from noworse.judge.compare import compare
from noworse.judge.verdict import judge
from noworse.judge.verify import verify, verify_task
from noworse.task.task import Task


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def accuracy(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    assert not model.training
    hits = [(model(x).argmax(1) == y).float() for x, y in batches]
    return float(torch.cat(hits).mean())


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 4))


@pytest.fixture
def batches() -> list[Any]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(600, 8, generator=generator)
    model = net().eval()
    y = (3 * model(x)).softmax(1).multinomial(1, generator=generator)[:, 0]
    return list(zip(x.split(128), y.split(128), strict=True))


def saved(path: Path, noise: float, model: nn.Module | None = None) -> tuple[Path, nn.Module]:
    candidate = copy.deepcopy(model or net())
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for parameter in candidate.parameters():
            parameter += noise * torch.randn(parameter.shape, generator=generator)
    save_file(candidate.state_dict(), path)
    return path, candidate


def test_verdict_is_that_of_the_written_file(tmp_path: Path, batches: list[Any]) -> None:
    model = net().train()
    state = copy.deepcopy(model.state_dict())
    path, candidate = saved(tmp_path / "x.nwt", 0.05)
    found = verify(path, model, loss, batches, tolerance=0.05, metric=accuracy, look=2, looks=2)
    pairs = compare(model, candidate, loss, batches)
    expected = judge(pairs.original, pairs.compressed, 0.05, look=2, looks=2)
    for name in ("verdict", "samples", "mean_difference", "upper_bound", "lower_bound", "tolerance", "looks"):
        assert getattr(found, name) == getattr(expected, name)
    assert found.samples == 600
    assert found.changed == pytest.approx(pairs.changed.mean())  # type: ignore[union-attr]
    assert found.mean_kl == pytest.approx(pairs.kl.mean())  # type: ignore[union-attr]
    assert found.metric_original == accuracy(copy.deepcopy(model).eval(), batches)
    assert found.metric_compressed == accuracy(candidate.eval(), batches)
    assert found.metric_compressed != found.metric_original
    assert model.training
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_lossless_file_is_no_worse_and_noise_is_worse(tmp_path: Path, batches: list[Any]) -> None:
    same = verify(saved(tmp_path / "a.nwt", 0.0)[0], net(), loss, batches, tolerance=0)
    assert (same.verdict, same.mean_difference, same.changed, same.mean_kl) == ("no worse", 0.0, 0.0, 0.0)
    broken = verify(saved(tmp_path / "b.nwt", 1.0)[0], net(), loss, batches)
    assert broken.verdict == "worse"
    assert broken.tolerance == pytest.approx(0.01 * broken.original_loss)
    assert broken.changed is not None
    assert broken.changed > 0.2


def test_one_shot_data_and_a_task(tmp_path: Path, batches: list[Any]) -> None:
    path, _ = saved(tmp_path / "x.nwt", 0.05)
    listed = verify(path, net(), loss, batches, metric=accuracy)
    assert verify(path, net(), loss, iter(batches), metric=accuracy) == listed
    task = Task(net(), loss, [], batches, metric=accuracy)
    assert verify_task(path, task) == listed
    plain = verify(path, net(), loss, iter(batches), distill="mse")
    assert (plain.changed, plain.mean_kl, plain.metric_original) == (None, None, None)
    assert plain.upper_bound == listed.upper_bound


def test_data_are_read_batch_by_batch(tmp_path: Path, batches: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than one batch may be alive: the next is produced only after both models have seen the last."""
    path, _ = saved(tmp_path / "x.nwt", 0.05)
    events: list[str] = []

    def produce() -> Iterable[Any]:
        for batch in batches:
            events.append("batch")
            yield batch

    def noting(model: nn.Module, batch: Any) -> Tensor:
        events.append("loss")
        return loss(model, batch)

    verify(path, net(), noting, produce())
    assert events == ["batch", "loss", "loss"] * len(batches)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loss": lambda m, b: F.cross_entropy(m(b[0]), b[1])}, "single number: expected one loss per sample"),
        ({"loss": lambda m, b: loss(m, b) * torch.nan}, "NaN"),
        ({"data": []}, "verify is empty: expected at least 30 samples"),
        ({"data": [(torch.zeros(10, 8), torch.zeros(10).long())]}, "verify holds 10 samples: expected at least 30"),
        ({"data": [(torch.zeros(30, 8), torch.zeros(29).long())]}, "verify batch 0 disagree"),
        ({"data": torch.zeros(60, 8)}, "verify is one Tensor"),
        ({"tolerance": "small"}, "tolerance 'small'"),
        ({"metric": lambda m, b: "good"}, "metric returned str: expected one number"),
    ],
)
def test_bad_input_is_named(tmp_path: Path, batches: list[Any], change: dict[str, Any], message: str) -> None:
    path, _ = saved(tmp_path / "x.nwt", 0.05)
    given = {"path": path, "model": net(), "loss": loss, "data": batches, **change}
    with pytest.raises(BadInput, match=message):
        verify(**given)


def test_metric_that_is_not_finite_is_left_out(tmp_path: Path, batches: list[Any]) -> None:
    path, _ = saved(tmp_path / "x.nwt", 0.05)
    found = verify(path, net(), loss, batches, metric=lambda m, b: np.float32("nan"))
    assert (found.metric_original, found.metric_compressed) == (None, None)


def test_a_metric_that_fails_on_the_file_alone_is_a_warning(tmp_path: Path, batches: list[Any]) -> None:
    path, _ = saved(tmp_path / "x.nwt", 0.05)
    model = net()

    def metric(module: nn.Module, data: Any) -> float:
        if module is not model:
            raise RuntimeError("of all models only the original has a cache")
        return 1.0

    with pytest.warns(UserWarning, match="only the original has a cache"):
        found = verify(path, model, loss, batches, metric=metric)
    assert (found.metric_original, found.metric_compressed) == (1.0, None)
    assert found.samples == 600


def test_files_that_do_not_fit_or_are_damaged(tmp_path: Path, batches: list[Any]) -> None:
    path, _ = saved(tmp_path / "x.nwt", 0.0)
    with pytest.raises(MismatchedModule):
        verify(path, nn.Linear(8, 4), loss, batches)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    with pytest.raises(CorruptFile):
        verify(path, net(), loss, batches)
