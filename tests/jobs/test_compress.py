"""Whole compressions of tiny nets: what is written, and that it is what was judged."""

from __future__ import annotations

import copy
import itertools
import pickle
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from noworse import Options, compress, load_file, load_model, verify
from noworse.errors import BadInput, TargetMissed
from noworse.format import File
from noworse.jobs.compress import compress_task
from noworse.jobs.quantize import quantize_task
from noworse.judge.verdict import Verdict
from noworse.representation import Constant, Grid, Raw, Tied
from noworse.task.task import Task
from tests.tiny import ConvNet, Language, Odd, language_task, loss, mlp, run, task

PARTS = ("weight", "running_mean", "running_var")
CASES: dict[str, tuple[Callable[[], nn.Module], Callable[[nn.Module], Task]]] = {
    "mlp": (mlp, task),
    "conv": (ConvNet, lambda model: task(model, 1, 12, 12)),
    "language": (Language, language_task),
    "odd": (Odd, task),
    "half": (lambda: mlp().half(), task),
    "bfloat16": (lambda: mlp().bfloat16(), task),
    "double": (lambda: ConvNet().double(), lambda model: task(model, 1, 12, 12)),
    "half conv": (lambda: ConvNet().half(), lambda model: task(model, 1, 12, 12)),
}


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return list(a) == list(b) and all(
        x.dtype == y.dtype and x.shape == y.shape and x.numpy(force=True).tobytes() == y.numpy(force=True).tobytes()
        if x.dtype != torch.bfloat16
        else torch.equal(x.view(torch.int16), y.view(torch.int16))
        for x, y in zip(a.values(), b.values(), strict=True)
    )


def ratio(model: nn.Module) -> int:
    """That of about four bits per weight."""
    return 2 * next(model.parameters()).itemsize


def expected_size(model: nn.Module) -> int:
    """Bytes of the state, tensors on one storage once."""
    return sum({t.data_ptr(): t.nbytes for t in model.state_dict().values() if t.numel()}.values())


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Any, ...]]:
    """One compression per case, shared by the tests: (model, task, file, report)."""
    folder, cache = tmp_path_factory.mktemp("compress"), {}

    def get(name: str) -> tuple[Any, ...]:
        if name not in cache:
            make, wrap = CASES[name]
            model = make()
            job, path = wrap(model), folder / f"{name}.nwt"
            before = copy.deepcopy(model)
            cache[name] = (model, job, path, run(job, path, f"{ratio(model)}x"), before)
        return cache[name]

    return get


@pytest.mark.parametrize("name", CASES)
def test_the_file_is_the_model_that_was_judged(done: Callable[..., Any], name: str) -> None:
    model, job, path, report, _ = done(name)
    assert report.size == path.stat().st_size
    assert report.original_size == expected_size(model)
    assert report.size <= report.original_size / ratio(model)
    first, second = (load_model(CASES[name][0](), path) for _ in range(2))
    assert same_bits(first.state_dict(), second.state_dict())
    again = verify(path, model, job.loss, job.verify, tolerance=report.verdict.tolerance)
    assert again == report.verdict
    with File(path) as file:
        file.check()
        assert file.verdict == report.verdict.record()
        assert Verdict.from_record(file.verdict).verdict == report.verdict.verdict
        assert file.settings == report.settings


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_is_in_the_file_once(done: Callable[..., Any], name: str) -> None:
    model, _, path, _, _ = done(name)
    state = model.state_dict()
    with File(path) as file:
        assert file.names == list(state)
        kinds = {name: file.representation(name) for name in file.names}
    for name, kind in kinds.items():
        assert kind.shape == tuple(state[name].shape)
        assert kind.dtype == str(state[name].dtype).removeprefix("torch.")
    owners: dict[tuple[int, ...], str] = {}
    for name, tensor in state.items():
        first = owners.setdefault((tensor.data_ptr(),), name) if tensor.numel() else name
        assert (kinds[name].target if isinstance(kinds[name], Tied) else name) == first
    found = load_file(path)
    assert all(found[n] is found[kind.target] for n, kind in kinds.items() if isinstance(kind, Tied))


@pytest.mark.parametrize("name", CASES)
def test_the_callers_model_is_not_touched(done: Callable[..., Any], name: str) -> None:
    model, _, _, _, before = done(name)
    assert same_bits(model.state_dict(), before.state_dict())
    for mine, other in zip(model.modules(), before.modules(), strict=True):
        assert mine.training == other.training
        assert not mine._forward_hooks
        assert not mine._forward_pre_hooks
        assert not mine._backward_hooks
    for mine, other in zip(model.parameters(), before.parameters(), strict=True):
        assert mine.requires_grad == other.requires_grad
        assert mine.grad is None


def test_a_context_coded_file_lands_on_its_target(tmp_path: Path) -> None:
    model = mlp()
    report = run(task(model), tmp_path / "x.nwt", 4, coder="max")  # of smaller files the verdict's digits are 3 %
    assert 0.97 * report.original_size / 4 < report.size <= report.original_size / 4
    with File(tmp_path / "x.nwt") as file:
        assert file.settings["coder"] == "max"
        assert any(stream.in_context for stream in file.index.streams)
        file.check()


def test_modes_and_the_random_state_survive(tmp_path: Path) -> None:
    model = nn.Sequential(mlp(), nn.Dropout(0.5)).train()
    model[0].eval()
    job = task(model)
    model.train()
    model[0].eval()
    modes, state = [m.training for m in model.modules()], torch.get_rng_state()
    run(job, tmp_path / "x.nwt", 14)
    assert [m.training for m in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)


def jitter(batch: Tensor) -> Tensor:
    return batch + 0.1 * torch.randn_like(batch)  # from torch's global generator


@pytest.mark.parametrize("augment", [None, jitter])
def test_the_seed_decides_every_byte(tmp_path: Path, augment: Callable[[Any], Any] | None) -> None:
    job, files = task(mlp(), augment=augment), []
    for number, seed in enumerate((3, 3, 4)):
        run(job, tmp_path / f"{number}.nwt", 14, iterations=8, seed=seed)
        files.append(tmp_path / f"{number}.nwt")
        torch.rand(number + 1)
    assert files[0].read_bytes() == files[1].read_bytes()
    first, other = (load_file(files[i]) for i in (0, 2))
    assert not all(torch.equal(first[name], other[name]) for name in first)


TARGETS = [(5, 30_003, 5), (12.0, 12_501, 60), ("20x", 7500, 5), ("9KB", 9000, 5), ("7 KiB", 7168, 60)]


@pytest.mark.parametrize(("target", "wanted", "iterations"), [*TARGETS, ("1.6 bits", 7500, 5)])
def test_the_target_is_met_within_one_per_cent(
    tmp_path: Path, target: float | str, wanted: int, iterations: int
) -> None:
    model = mlp(1500)  # 37,504 weights, 150 KB
    size = run(task(model), tmp_path / "x.nwt", target, iterations=iterations).size
    assert size == (tmp_path / "x.nwt").stat().st_size
    assert 0.99 * wanted <= size <= wanted


@pytest.mark.parametrize("target", [3, 10, "1KB", "1.5 bits"])
def test_small_files_land_as_near_as_the_digits_of_a_verdict_allow(tmp_path: Path, target: float | str) -> None:
    report = run(task(mlp()), tmp_path / "x.nwt", target)
    wanted = {"1KB": 1000.0, "1.5 bits": 1604 * 1.5 / 8}.get(str(target)) or 1604 * 4 / float(target)
    assert 0.99 * wanted - 24 <= report.size <= wanted


def test_a_target_beyond_every_use_is_undercut(tmp_path: Path) -> None:
    """Nobody needs 31 bits per weight: the finest grids are written, which are as good as the original."""
    job = task(mlp())
    report = run(job, tmp_path / "x.nwt", 1.02, iterations=1)
    assert report.size < report.original_size / 1.02
    found, state = load_file(tmp_path / "x.nwt"), job.model.state_dict()
    assert all(torch.allclose(found[name], state[name], atol=1e-3) for name in state)
    assert report.verdict.mean_kl is not None
    assert report.verdict.mean_kl < 1e-6


def test_norms_are_expanded_again(tmp_path: Path) -> None:
    """Folded norms are constants in the file; the original class loads strictly and, at a high rate, is the same."""
    model, path = ConvNet(), tmp_path / "x.nwt"
    job = task(model, 1, 12, 12)
    report = run(job, path, 4, iterations=1)
    assert set(report.folded) == {"bn1", "bn2"}
    with File(path) as file:
        for name in ("bn1", "bn2"):
            assert all(isinstance(file.representation(f"{name}.{part}"), Constant) for part in PARTS)
            assert isinstance(file.representation(f"{name}.bias"), Grid)
    decoded = ConvNet()
    decoded.load_state_dict(load_file(path), strict=True)
    x = torch.cat([batch[0] for batch in job.verify])
    with torch.no_grad():
        assert torch.allclose(decoded.eval()(x), model(x), atol=0.02)


def test_a_layer_norm_before_a_linear_layer_is_folded(done: Callable[..., Any]) -> None:
    _, _, path, report, _ = done("language")
    assert report.folded == ("norm",)
    found = load_file(path)
    assert (found["norm.weight"] == 1).all()
    assert (found["norm.bias"] == 0).all()
    assert found["head.weight"] is found["embed.weight"]


def test_odd_tensors_come_back_exactly(done: Callable[..., Any]) -> None:
    model, _, path, report, _ = done("odd")
    found, state = load_file(path), model.state_dict()
    for name in ("empty", "ones", "one", "scalar", "order", "enabled", "noise", "echo"):
        assert same_bits({name: found[name]}, {name: state[name]}), name
    assert "forgotten" not in found
    assert set(report.unused) == {"spare.weight", "spare.bias"}
    assert "spare.bias" in str(report)
    spare = (found["spare.weight"] - state["spare.weight"]).square().mean() / state["spare.weight"].var()
    assert spare < 0.1, "what calib does not reach is kept coarsely, not thrown away"
    with File(path) as file:
        kinds = {name: type(file.representation(name)) for name in file.names}
    assert kinds["first.weight"] is Grid, "frozen parameters are compressed like others"
    assert kinds["order"] is kinds["empty"] is Raw


@pytest.mark.parametrize("distill", ["kl", "mse", "cosine"])
def test_every_distillation_and_a_metric(tmp_path: Path, distill: str) -> None:
    def accuracy(model: nn.Module, batches: Iterable[Any]) -> float:
        return float(torch.cat([(model(x).argmax(1) == y).float() for x, y in batches]).mean())

    report = run(task(mlp(), distill=distill, metric=accuracy), tmp_path / "x.nwt", 14)
    assert report.verdict.metric_original is not None
    assert report.verdict.metric_compressed is not None
    assert (report.verdict.mean_kl is None) == (distill != "kl")
    assert report.settings["distill"] == distill


def test_tuples_lists_and_generators_of_batches(tmp_path: Path) -> None:
    job = task(mlp())
    reference = run(job, tmp_path / "a.nwt", 14)
    labelled = [(batch, torch.zeros(len(batch))) for batch in job.calib]
    given = Task(job.model, loss, iter(labelled), iter(job.verify))
    found = run(given, tmp_path / "b.nwt", 14)
    assert (tmp_path / "a.nwt").read_bytes() == (tmp_path / "b.nwt").read_bytes()
    assert found.verdict == reference.verdict


def test_a_forward_of_the_tasks_own(tmp_path: Path) -> None:
    calls = []

    def forward(model: nn.Module, batch: Any) -> Tensor:
        calls.append(len(batch))
        return model(batch if isinstance(batch, Tensor) else batch[0])  # type: ignore[no-any-return]

    assert run(task(mlp(), forward=forward), tmp_path / "x.nwt", 14).verdict.samples == 800
    assert len(calls) > 20


def test_a_tolerance_decides_the_size(tmp_path: Path) -> None:
    job, sizes = task(mlp()), []
    for tolerance in ("1%", "20%"):
        report = run(job, tmp_path / "x.nwt", tolerance=tolerance, iterations=60)
        assert report.verdict.passed
        assert report.verdict.upper_bound <= report.verdict.tolerance
        assert 1 <= report.verdict.look <= report.verdict.looks == Options().looks
        again = verify(
            tmp_path / "x.nwt", job.model, loss, job.verify,
            tolerance=report.verdict.tolerance, look=report.verdict.look, looks=report.verdict.looks,
        )  # fmt: skip
        assert again == report.verdict
        sizes.append(report.size)
    assert sizes[1] < sizes[0]


def test_a_worse_file_is_an_error_unless_no_tolerance_is_asked_for(tmp_path: Path) -> None:
    job = task(mlp())
    given = {"target": "450B", "options": Options(iterations=5), "progress": None}
    with pytest.raises(TargetMissed) as raised:
        compress_task(job, tmp_path / "x.nwt", **given)
    assert not raised.value.report.passed
    again = pickle.loads(pickle.dumps(raised.value))  # across a process boundary, as pools and launchers send it
    assert (str(again), again.file) == (str(raised.value), raised.value.file)
    report = compress_task(job, tmp_path / "x.nwt", **given, tolerance=None)
    assert not report.passed
    assert not report.verdict
    assert (tmp_path / "x.nwt").read_bytes() != b""
    with pytest.raises(BadInput, match="neither target nor tolerance"):
        compress_task(job, tmp_path / "x.nwt", tolerance=None)


@pytest.mark.parametrize("target", [16, None])
def test_a_tolerance_that_cannot_be_met(tmp_path: Path, target: float | None) -> None:
    """No bound is at most zero here; the best file comes with the exception, and nothing stays on disk."""
    job = task(mlp())
    with pytest.raises(TargetMissed, match="tolerance was not met: ") as raised:
        run(job, tmp_path / "x.nwt", target, tolerance=0, iterations=5, seed=1)
    assert list(tmp_path.iterdir()) == []
    report = raised.value.report
    assert not report.verdict.passed
    assert report.size == len(raised.value.file)
    (tmp_path / "best.nwt").write_bytes(raised.value.file)
    looks = 1 if target else Options().looks
    assert report.verdict.look == report.verdict.looks == looks
    again = verify(tmp_path / "best.nwt", job.model, loss, job.verify, tolerance=0, look=looks, looks=looks)
    assert again == report.verdict


def test_the_functions_of_the_package_take_keywords(tmp_path: Path) -> None:
    model, job = mlp(), task(mlp())
    steps: list[Any] = []
    report = compress(
        model, loss=loss, calib=job.calib, verify=job.verify, out=tmp_path / "x.nwt", target="800B", tolerance=None,
        options=Options(iterations=30), progress=steps.append,
    )  # fmt: skip
    assert callable(verify)
    assert [step.stage for step in steps if step.budget] == ["tune", "tune"]
    surveyed = ["survey: gradients", "survey: inputs of layers", "survey: layers"]
    assert list(dict.fromkeys(step.stage for step in steps)) == [*surveyed, "start", "tune", "write and verify"]
    assert list(itertools.chain([report.path], map(str, tmp_path.iterdir()))) == [str(tmp_path / "x.nwt")] * 2
    assert report.settings == {"seed": 0, "distill": "kl", "iterations": 30, "target": "800B"}


def test_without_the_entropy_term_the_size_is_held_all_the_same(tmp_path: Path) -> None:
    report = run(task(mlp()), tmp_path / "x.nwt", "1200B", iterations=60, entropy_term=False)
    assert 0.97 * 1200 <= report.size <= 1200
    assert report.settings["entropy_term"] is False


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_the_callers_grad_mode_changes_no_byte(mode: Any, tmp_path: Path) -> None:
    run(task(ConvNet(), 1, 12, 12), tmp_path / "a.nwt", 8)
    job = task(ConvNet(), 1, 12, 12)
    with mode():
        run(job, tmp_path / "b.nwt", 8)
        assert quantize_task(job, bits=4, tolerance=None, progress=None).verdict == quantized(job)
    assert (tmp_path / "a.nwt").read_bytes() == (tmp_path / "b.nwt").read_bytes()


def quantized(job: Task) -> Verdict:
    with torch.inference_mode(False), torch.enable_grad():
        return quantize_task(job, bits=4, tolerance=None, progress=None).verdict


def test_a_model_and_data_made_in_inference_mode(tmp_path: Path) -> None:
    run(task(mlp(16)), tmp_path / "a.nwt", 2, iterations=1)
    with torch.inference_mode():
        job = task(mlp(16))
    run(job, tmp_path / "b.nwt", 2, iterations=1)
    assert (tmp_path / "a.nwt").read_bytes() == (tmp_path / "b.nwt").read_bytes()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_another_default_dtype_changes_no_byte(tmp_path: Path, dtype: torch.dtype) -> None:
    job = task(mlp(16))
    run(job, tmp_path / "a.nwt", 2, iterations=1)
    torch.set_default_dtype(dtype)
    try:
        run(replace(job), tmp_path / "b.nwt", 2, iterations=1)
        assert torch.get_default_dtype() == dtype
    finally:
        torch.set_default_dtype(torch.float32)
    assert (tmp_path / "a.nwt").read_bytes() == (tmp_path / "b.nwt").read_bytes()


def test_a_forward_makes_tensors_in_the_callers_dtype(tmp_path: Path) -> None:
    """Of a net in float64 that is used under that default dtype: its own judge has it, copies have float32."""

    class Stateful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp(16)

        def forward(self, x: Tensor) -> Tensor:
            return self.net(torch.zeros(len(x), 20).lerp(x, torch.ones(())))  # type: ignore[no-any-return]

    torch.set_default_dtype(torch.float64)
    try:
        report = run(task(Stateful().double()), tmp_path / "x.nwt", 3, iterations=1)
    finally:
        torch.set_default_dtype(torch.float32)
    assert report.verdict.mean_difference < 0.1
