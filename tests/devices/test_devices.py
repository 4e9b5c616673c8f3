"""Every verb on a device that is not the processor: what it computes, what it leaves alone, what it repeats."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import noworse
from noworse.jobs.compress import compress_task
from noworse.jobs.decompose import decompose_task
from noworse.jobs.quantize import load_quantized, quantize_task
from noworse.model.device import CPU, home
from noworse.run import resume
from noworse.run.resume import module_digest
from noworse.task import data
from noworse.tune.options import Options
from tests.devices import simulated
from tests.devices.conftest import REAL
from tests.devices.nets import TASKS
from tests.tiny import loss

QUIET: dict[str, Any] = {"tolerance": None, "progress": None}
FEW = Options(iterations=6, batch=16)
EACH = pytest.mark.parametrize("name", TASKS)


def state(module: nn.Module) -> tuple[str, set[torch.device], bool]:
    return module_digest(module), {t.device for t in module.state_dict().values()}, module.training


def moved(batches: Any, *devices: torch.device) -> list[data.Batch]:
    """Batches on other devices, one after the other."""
    return [data.copied(batch, device) for batch, device in zip(batches, itertools.cycle(devices))]


def compress(task: noworse.Task, out: Path, options: Options = FEW, **asked: Any) -> noworse.Report:
    return compress_task(task, out, **{"target": "4 bits", **QUIET, **asked}, options=options)


@EACH
def test_compress_there_is_compress_here(name: str, device: torch.device, tmp_path: Path) -> None:
    task = TASKS[name]()
    before = state(task.model)
    here = compress(task, tmp_path / "a.nwt")
    there = compress(task, tmp_path / "b.nwt", device=device)
    assert state(task.model) == before
    assert abs(there.size - here.size) <= 0.01 * here.size
    close = abs(there.verdict.mean_difference - here.verdict.mean_difference)
    assert close <= 0.3 * (here.verdict.upper_bound - here.verdict.mean_difference)
    module = noworse.load_model(TASKS[name]().model, tmp_path / "b.nwt", device=device)
    assert home(module) == device
    tensors = noworse.load_file(tmp_path / "b.nwt", device=device)
    assert all(torch.equal(tensors[key], value) for key, value in module.state_dict().items())
    verdict = noworse.verify_task(tmp_path / "b.nwt", task, device=device)
    assert verdict.mean_difference == pytest.approx(there.verdict.mean_difference, rel=1e-4, abs=1e-7)


def test_outliers_there(device: torch.device, tmp_path: Path) -> None:
    """They are listed beside the grid, bit for bit, also where the original's weights are what a start goes back to."""
    task = TASKS["mlp"]()
    weight = next(w for w in task.model.parameters() if w.dim() == 2)
    with torch.no_grad():
        weight[1, 2] = 1e4
    compress(task, tmp_path / "a.nwt", device=device)
    with noworse.safe_open(tmp_path / "a.nwt", "pt") as file:
        name = next(name for name, w in task.model.named_parameters() if w is weight)
        assert file.get_tensor(name)[1, 2] == 1e4


def test_where_the_model_is_there_it_is_done_whatever_the_batches(device: torch.device, tmp_path: Path) -> None:
    task, files = TASKS["cnn"](), []
    model = noworse.load_model(task.model, save(task.model, tmp_path), device=device)  # the task's own, which moves
    for number, where in enumerate([(CPU,), (device,), (CPU, device)]):
        there = replace(task, model=model, calib=moved(task.calib, *where), verify=moved(task.verify, *where))
        compress(there, tmp_path / f"{number}.nwt")
        files.append((tmp_path / f"{number}.nwt").read_bytes())
    assert files[0] == files[1] == files[2]
    assert home(model) == device
    compress(replace(task, model=model), tmp_path / "back.nwt", device="cpu")
    compress(TASKS["cnn"](), tmp_path / "here.nwt")
    assert (tmp_path / "back.nwt").read_bytes() == (tmp_path / "here.nwt").read_bytes()


def save(model: nn.Module, folder: Path) -> Path:
    noworse.save_file(model.state_dict(), folder / "own.nwt")
    return folder / "own.nwt"


def test_inputs_and_labels_of_one_batch_on_two_devices(device: torch.device, tmp_path: Path) -> None:
    task = TASKS["mlp"]()
    mixed = [(x.to(device), y) for x, y in task.verify]
    compress(replace(task, verify=mixed), tmp_path / "a.nwt")
    compress(task, tmp_path / "b.nwt")
    assert (tmp_path / "a.nwt").read_bytes() == (tmp_path / "b.nwt").read_bytes()


@pytest.mark.parametrize("name", ["cnn", "gru", "language"])
def test_quantize_and_decompose(name: str, device: torch.device, tmp_path: Path) -> None:
    task = TASKS[name]()
    before = state(task.model)
    here, there = (quantize_task(task, bits=5.0, **QUIET, device=where) for where in (None, device))
    assert home(there.module) == device
    assert [p.bits for p in there.proposals] == [p.bits for p in here.proposals]
    there.save(tmp_path / "q.nwt")
    assert home(load_quantized(TASKS[name]().model, tmp_path / "q.nwt", device)) == device
    few, less = (decompose_task(task, drop=0.2, **QUIET, device=where) for where in (None, device))
    assert home(less.module) == device
    assert less.factors == few.factors
    less.save(tmp_path / "d.nwt")
    assert home(noworse.load_decomposed(TASKS[name]().model, tmp_path / "d.nwt", device)) == device
    assert state(task.model) == before


@pytest.mark.parametrize(
    "options",
    [
        {"methods": "auto"},
        {"features": ("auto",), "bias_correction": True},
        {"plugins": {"transform": "log"}, "rounding": "nearest"},
        {"rounding": "nearest", "plugins": {"tuner": "alternating", "rate": "official"}},
        {"layer_bits": {"*": (1.0, 5.0)}, "plugins": {"rate": {"name": "soft", "on_weights": True}}},
    ],
)
def test_options(options: dict[str, Any], device: torch.device, tmp_path: Path) -> None:
    few, name = Options(iterations=3, batch=16, **options), "mlp" if "plugins" in options else "cnn"
    outs = [tmp_path / out for out in ("a.nwt", "b.nwt")][: 1 if name == "mlp" else 2]  # the same bytes again
    for out in outs:
        compress(TASKS[name](), out, few, device=device)
    assert len({out.read_bytes() for out in outs}) == 1


def test_within_a_tolerance(device: torch.device, tmp_path: Path) -> None:
    report = compress(TASKS["mlp"](), tmp_path / "a.nwt", target=None, tolerance="60%", device=device)
    assert report.passed


@pytest.mark.parametrize("preset", ["paper"])
def test_presets_of_llc(preset: str, device: torch.device) -> None:
    task = TASKS["mlp"]()
    task = replace(task, calib=list(task.verify)[:2], verify=list(task.verify)[2:])
    asked: dict[str, Any] = {**QUIET, "preset": preset}
    here, there = (quantize_task(task, bits=5.0, **asked, device=where) for where in (None, device))
    assert here.mean_bits == there.mean_bits
    few, less = (decompose_task(task, **asked, device=where) for where in (None, device))
    assert few.factors == less.factors


def test_neighborhood_and_measure(device: torch.device) -> None:
    task = TASKS["attention"]()
    batches = list(task.verify)[:1]
    asked: dict[str, Any] = {"alone": False, "sizes": [0.01], "bits": [4]}
    here, there = (noworse.neighborhood(task.model, loss, batches, **asked, device=w) for w in (None, device))
    for a, b in zip(here.points, there.points, strict=True):
        assert (a.actual, a.first, a.second) == pytest.approx((b.actual, b.first, b.second), rel=1e-6, abs=1e-9)
    for kind in noworse.sensitivity.ESTIMATORS:
        errors: dict[str, Any] = {"fc.weight": lambda w: w * 0.01}
        found = [noworse.sensitivity.measure(task.model, loss, batches, errors, kind, device=w) for w in (None, device)]
        means = [each["fc.weight"].mean for each in found]
        assert means[0] == pytest.approx(means[1], rel=0.5 if kind == "fisher" and REAL else 1e-3, abs=1e-7)


@pytest.mark.parametrize("name", ["cnn"])
def test_without_float64(name: str, narrow: torch.device, tmp_path: Path) -> None:
    noworse.model.device._has_double.cache_clear()
    try:
        task = TASKS[name]()
        compress(task, tmp_path / "a.nwt", Options(iterations=2, batch=16, bias_correction=True), device=narrow)
        assert quantize_task(task, bits=5.0, **QUIET, device=narrow).verdict.samples == 800
        assert decompose_task(task, drop=0.2, **QUIET, device=narrow).drop > 0
        asked: dict[str, Any] = {"alone": False, "sizes": [0.01], "bits": [4], "dtype": torch.float32}
        assert noworse.neighborhood(task.model, loss, list(task.verify)[:1], **asked, device=narrow).points
    finally:
        noworse.model.device._has_double.cache_clear()


class Stopped(Exception):
    pass


def interrupt(at: int) -> Callable[[Any], None]:
    def progress(line: noworse.tune.tuner.ProgressLine) -> None:
        if line.stage == "tune" and line.iteration >= at:
            raise Stopped

    return progress


def test_a_run_goes_on_to_the_same_bytes(device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "EVERY", 0.0)

    def augment(batch: Tensor) -> Tensor:  # draws from the generator of the device
        return batch.to(device) + 0.1 * torch.randn(batch.shape, device=device)

    task, options = replace(TASKS["mlp"](), augment=augment), Options(iterations=30, batch=16)
    whole = compress(task, tmp_path / "a.nwt", options, device=device)
    asked: dict[str, Any] = {"device": device, "work": tmp_path / "work"}
    with pytest.raises(Stopped):
        compress(task, tmp_path / "b.nwt", options, **asked, progress=interrupt(25))
    before = torch.get_rng_state()
    with pytest.raises(noworse.BadInput, match="the kind of device differs"):
        compress(task, tmp_path / "b.nwt", options, work=tmp_path / "work")
    assert compress(task, tmp_path / "b.nwt", options, **asked).size == whole.size
    assert (tmp_path / "a.nwt").read_bytes() == (tmp_path / "b.nwt").read_bytes()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(REAL is not None, reason="memory of a real device is not limited")
def test_memory_runs_out_and_the_run_goes_on(
    device: torch.device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resume, "EVERY", 0.0)
    task, options = TASKS["cnn"](), Options(iterations=30, batch=16)
    compress(task, tmp_path / "a.nwt", options, device=device)
    asked: dict[str, Any] = {"device": device, "work": tmp_path / "work"}

    def fill(line: noworse.tune.tuner.ProgressLine) -> None:
        if line.stage == "tune" and line.iteration >= 25:
            simulated.limit(0)

    try:
        with pytest.raises(noworse.BadInput, match=r"memory ran out .*smaller Options.batch \(16\).*goes on"):
            compress(task, tmp_path / "b.nwt", options, **asked, progress=fill)
    finally:
        simulated.limit(None)
    assert (tmp_path / "work" / resume.NAME).exists()
    compress(task, tmp_path / "b.nwt", options, **asked)
    assert (tmp_path / "a.nwt").read_bytes() == (tmp_path / "b.nwt").read_bytes()


def test_what_cannot_be_used(device: torch.device, tmp_path: Path) -> None:
    task = TASKS["mlp"]()
    for verb in (compress, quantize_task, decompose_task):
        with pytest.raises(noworse.BadInput, match="device 'nowhere' cannot be used"):
            verb(task, tmp_path / "a.nwt", device="nowhere")  # type: ignore[operator]
    with pytest.raises(noworse.BadInput, match="device 'nowhere' cannot be used"):
        noworse.neighborhood(task.model, loss, list(task.verify), device="nowhere")
    mixed: Any = TASKS["mlp"]()
    mixed.model[2].to(device)
    with pytest.raises(noworse.BadInput, match=r"several devices, '0.weight' on cpu, '2.weight' on"):
        compress(mixed, tmp_path / "a.nwt")
    compress(mixed, tmp_path / "a.nwt", device=device)
    compress(TASKS["mlp"](), tmp_path / "b.nwt", device=device)
    assert (tmp_path / "a.nwt").read_bytes() == (tmp_path / "b.nwt").read_bytes()


@pytest.mark.skipif(REAL is not None, reason="calls are counted by the simulated device alone")
def test_the_device_is_used(device: torch.device, tmp_path: Path) -> None:
    before = simulated.calls()
    compress(TASKS["mlp"](), tmp_path / "a.nwt", device=device)
    assert simulated.calls() > before + 500
    x, other = torch.zeros(2, device=device), torch.Generator()
    for refused in (lambda: x + torch.zeros(2), x.numpy, lambda: torch.randn(2, generator=other, device=device)):
        with pytest.raises((RuntimeError, TypeError)):
            refused()


def test_a_loss_that_calls_the_callers_own_model_is_refused(device: torch.device, tmp_path: Path) -> None:
    task = TASKS["mlp"]()
    own = task.model

    def cheat(model: nn.Module, batch: Any) -> Tensor:
        return loss(own, data.copied(batch, CPU)).to(batch[0].device)

    with pytest.raises(noworse.BadInput, match="calls the original model itself"):
        compress(replace(task, loss=cheat), tmp_path / "a.nwt", device=device)
