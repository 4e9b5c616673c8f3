from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from noworse.errors import BadInput, TargetMissed
from noworse.format import File
from noworse.jobs.job import Job, Output, run_of, seeded
from noworse.judge.verdict import Verdict
from noworse.representation import Raw
from noworse.run.processes import ALONE
from noworse.run.resume import State
from noworse.tune.options import Options
from tests.tiny import loss, mlp, task


@dataclass
class Made:
    """What a verb might return."""

    verdict: Verdict


def test_the_limit_is_in_the_unit_of_the_loss() -> None:
    job = task(mlp())
    x, y = (torch.cat(column) for column in zip(*job.verify, strict=True))
    mean = float(loss(job.model, (x, y)).double().mean())
    assert Job(job, "2%").limit == pytest.approx(0.02 * mean, rel=1e-6)
    assert Job(job, 0.3).limit == 0.3
    assert Job(job, None).limit == pytest.approx(0.01 * mean, rel=1e-6)
    assert (Job(job, None).samples, Job(job, None).calib_samples) == (800, 300)


def test_the_original_is_no_worse_than_itself_and_noise_is_refused_unless_no_tolerance_is_asked_for() -> None:
    job = task(mlp())
    spoilt = mlp()
    with torch.no_grad():
        spoilt[0].weight.mul_(-1)  # type: ignore[operator]
    for tolerance, refused in (("1%", True), (None, False)):
        made = Job(job, tolerance)
        assert not made.refuses(made.judge(job.model))
        worse = made.judge(spoilt, 2, 3)
        assert (worse.verdict, worse.look, worse.looks) == ("worse", 2, 3)
        assert made.refuses(worse) is refused


def test_finish_saves_what_passed_and_carries_what_did_not(tmp_path: Path) -> None:
    job = Job(task(mlp()), "1%")
    saved: list[Path] = []
    good = Made(job.judge(job.task.model))
    assert job.finish(good, tmp_path / "x.nwt", lambda made, path: saved.append(path)) is good
    assert saved == [tmp_path / "x.nwt"]
    bad = Made(job.judge(torch.nn.Sequential(torch.nn.Linear(20, 4))))
    with pytest.raises(TargetMissed, match="tolerance was not met") as raised:
        job.finish(bad, tmp_path / "y.nwt", lambda made, path: saved.append(path))
    assert raised.value.report is bad
    assert saved == [tmp_path / "x.nwt"]


def test_the_expected_record_is_as_long_as_a_real_one() -> None:
    job = Job(task(mlp(), metric=lambda model, batches: 91.25), "1%")
    near = mlp()
    with torch.no_grad():
        near[0].weight.mul_(1.01)  # type: ignore[operator]
    expected, real = job.expected(1), job.judge(near).record()
    assert expected.keys() == real.keys()
    assert abs(len(json.dumps(expected)) - len(json.dumps(real))) < 40


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    first = Job(task(mlp()), "1%")
    first.begin(tmp_path, {"target": 8})
    first.work.note("plan", lambda: 3)
    first.work.offer(lambda: State({"w": torch.zeros(2)}, {"stage": "tune"}), now=True)
    again = Job(task(mlp()), "1%")
    again.begin(tmp_path, {"target": 8})
    assert again.work.note("plan", lambda: 4) == 3
    with pytest.raises(BadInput, match="holds another run, whose target differs"):
        Job(task(mlp()), "1%").begin(tmp_path, {"target": 9})


def test_a_metric_that_fails_is_told_before_any_work() -> None:
    def metric(model: Any, batches: Any) -> float:
        raise KeyError("accuracy")

    with pytest.raises(BadInput, match="metric fails with KeyError: 'accuracy'"):
        Job(task(mlp(), metric=metric), "1%")


def test_a_run_leaves_the_callers_random_state_as_it_was() -> None:
    job_of = task(mlp())
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with run_of(job_of, "1%", seeded(Options(seed=1), 7), None) as job:
        assert job.options.seed == 7
        torch.rand(100)
    assert torch.equal(torch.rand(3), expected)
    assert seeded(Options(seed=4), None).seed == 4


ITEMS = {"w": Raw(np.arange(6, dtype=np.float32).view(np.uint8).data, (6,), "float32")}


def test_a_file_gets_its_name_when_it_is_published(tmp_path: Path) -> None:
    path = tmp_path / "x.nwt"
    path.write_bytes(b"older")
    with Output(path, ALONE) as output:
        output.write(ITEMS, {"seed": 1}, "fast")
        assert path.read_bytes() == b"older"
        content = output.content()
        output.publish()
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]
    with File(path) as file:
        assert (file.settings, list(file.names)) == ({"seed": 1}, ["w"])


def test_what_was_not_published_is_removed(tmp_path: Path) -> None:
    with Output(tmp_path / "x.nwt", ALONE) as output:
        output.write(ITEMS, {}, "fast")
        assert output.partial.exists()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["", "missing/x.nwt"])
def test_places_where_no_file_can_be(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="expected a file name in an existing, writable folder"):
        Output(tmp_path / name, ALONE)
