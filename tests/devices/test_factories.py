"""Every tensor that is made names its device: torch's own default is one without numbers while all verbs run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import noworse
from noworse.jobs.compress import compress_task
from noworse.jobs.decompose import decompose_task
from noworse.jobs.quantize import quantize_task
from noworse.tune.options import Options
from tests.devices.nets import TASKS
from tests.tiny import run

L2: dict[str, Any] = {"rounding": "nearest", "plugins": {"tuner": "alternating", "rate": "official"}}


SOME = pytest.mark.parametrize("task", ["cnn", "gru", "language"], indirect=True)


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> Iterator[noworse.Task]:
    made = TASKS[request.param]()
    torch.set_default_device("meta")
    yield made
    torch.set_default_device(None)


def test_compress_and_verify(task: noworse.Task, tmp_path: Path) -> None:
    out = tmp_path / "m.nwt"
    report = run(task, out, "4 bits", iterations=4, batch=16)
    again = noworse.verify_task(out, task)
    assert again.mean_difference == pytest.approx(report.verdict.mean_difference, rel=1e-6)


@SOME
def test_quantize_and_decompose(task: noworse.Task) -> None:
    quantised = quantize_task(task, bits=5.0, tolerance=None, progress=None)
    assert quantised.verdict.samples == sum(map(noworse.task.data.batch_size, task.verify))
    assert 0 < decompose_task(task, drop=0.2, tolerance=None, progress=None).drop < 1


@pytest.mark.parametrize("options", [{"methods": "auto"}, L2, {"plugins": {"transform": "log"}, "rounding": "nearest"}])
def test_other_ways(options: dict[str, Any], tmp_path: Path) -> None:
    task = TASKS["mlp" if "plugins" in options else "cnn"]()
    torch.set_default_device("meta")
    try:
        compress_task(
            task, tmp_path / "m.nwt", target="4 bits", tolerance=None, options=Options(iterations=4, **options),
            progress=None,
        )  # fmt: skip
    finally:
        torch.set_default_device(None)


@SOME
def test_neighborhood_and_measure(task: noworse.Task) -> None:
    batches = list(task.verify)[:1]
    found = noworse.neighborhood(task.model, task.loss, batches, alone=False, sizes=[0.01], bits=[4])
    assert found.points
    name = next(name for name, p in task.model.named_parameters() if p.ndim > 1)
    for kind in ("fisher", "loss"):
        assert noworse.sensitivity.measure(task.model, task.loss, batches, {name: lambda w: w * 0.01}, kind)[name]
