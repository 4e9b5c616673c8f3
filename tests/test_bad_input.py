"""What cannot be used is named, with what was found and what was expected, and leaves nothing on disk."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.errors import BadInput, CorruptFile, MismatchedModule, NoWorseError
from noworse.format import File
from noworse.io import load_file
from noworse.jobs.compress import compress_task
from noworse.judge.verify import verify
from noworse.model.load import load_model
from noworse.task import data
from noworse.task.task import Task
from noworse.tune.options import Options
from noworse.tune.progress import ProgressLine
from tests.tiny import loss, mlp, run, task


@pytest.fixture
def out(tmp_path: Path) -> Iterator[Path]:
    """Where to write; the folder must be empty in the end."""
    folder = tmp_path / "out"
    folder.mkdir()
    yield folder / "x.nwt"
    assert list(folder.iterdir()) == []


def with_weight(value: float) -> Task:
    job = task(mlp())
    with torch.no_grad():
        job.model[0].weight[3, 4] = value  # type: ignore[index]
    return job


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
def test_weights_that_are_no_numbers(out: Path, value: float) -> None:
    job = with_weight(value)
    with pytest.raises(BadInput, match=r"parameter '0.weight' has 1 NaN or infinite values: expected finite weights"):
        run(job, out, 8)


def test_degenerate_tensors_are_kept_exactly(tmp_path: Path) -> None:
    """Empty, all zero, of zero range, of one element: nothing is divided by any of these."""

    class Extra(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = mlp()
            extras = [torch.zeros(0), torch.zeros(3, 0, 2), torch.zeros(5), torch.full((4, 4), -2.5)]
            self.extras = nn.ParameterList([*extras, torch.tensor(0.3), torch.tensor([-0.7])])

        def forward(self, x: Tensor) -> Tensor:
            return self.net(x) * self.extras[5] + sum(extra.sum() for extra in self.extras)  # type: ignore[no-any-return]

    model = Extra()
    run(task(model), tmp_path / "x.nwt", 12, iterations=3)
    found = load_file(tmp_path / "x.nwt")
    assert all(torch.equal(found[f"extras.{i}"], extra) for i, extra in enumerate(model.extras))


LOSSES: list[tuple[Callable[..., Any], str]] = [
    (lambda m, b: loss(m, b).mean(), r"is a single number: expected one loss per sample, shape \(200,\)"),
    (lambda m, b: loss(m, b) * torch.nan, r"is NaN or infinite for 200 of 200 samples: expected finite losses"),
    (lambda m, b: loss(m, b)[:-1], r"has shape \(199,\): expected one loss per sample, shape \(200,\)"),
    (lambda m, b: loss(m, b).tolist(), "is list: expected one loss per sample"),
]


@pytest.mark.parametrize(("bad", "message"), LOSSES, ids=["one number", "NaN", "one short", "list"])
def test_losses(out: Path, bad: Callable[..., Any], message: str) -> None:
    with pytest.raises(BadInput, match="loss of the original model in batch 0 " + message):
        run(replace(task(mlp()), loss=bad), out, 8)


X = torch.randn(15, 20)
Y = torch.zeros(15).long()
DATA: list[tuple[str, Any, str]] = [
    ("calib", [], "calib is empty: expected at least 16 samples"),
    ("calib", [X], "calib holds 15 samples: expected at least 16"),
    ("calib", [X, "text"], "calib batch 1 is str: expected a tensor, a tuple of tensors or a dict of tensors"),
    ("calib", [object()], "calib batch 0 is object: expected a tensor"),
    ("calib", [(X, [1])], r"calib batch 0\[1\] is list: expected a tensor"),
    ("calib", X, "calib is one Tensor: expected an iterable of batches"),
    ("calib", 7, "calib is one int: expected an iterable of batches"),
    ("calib", [(X, Y[:3])], r"disagree on the number of samples: 15 in \[0\], 3 in \[1\]"),
    ("calib", [torch.randn(20, 20), torch.randn(9, 20).double()], "calib batch 1 differs from batch 0"),
    ("verify", [], "verify is empty: expected at least 30 samples"),
    ("verify", [(X, Y)], "verify holds 15 samples: expected at least 30"),
]


@pytest.mark.parametrize(("which", "data", "message"), DATA, ids=[message for _, _, message in DATA])
def test_data(out: Path, which: str, data: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        run(replace(task(mlp()), **{which: data}), out, 8)


def test_held_out_data_must_be_held_out(out: Path) -> None:
    job = task(mlp())
    with pytest.raises(BadInput, match="200 samples of verify are in calib too: expected held-out data"):
        run(replace(job, calib=[*job.calib, job.verify[1][0]]), out, 8)  # type: ignore[index]


TARGETS = [
    ("300x", r"target '300x' means 21 bytes: \d+ are needed even with every weight pruned"),
    ("1x", "means 6416 bytes: expected less than the original's 6416"),
    ("1MB", "means 1000000 bytes: expected less than the original's 6416"),
    ("80 bits", "means 16040 bytes: expected less"),
    ("5 parsecs", "unknown unit 'parsecs': expected x, B, KB"),
    ("small", "target 'small' is not understood: expected a ratio such as 20"),
    (0, "target 0 is not understood"),
    (-3, "target -3 is not understood"),
    (float("nan"), "target nan is not understood"),
]


@pytest.mark.parametrize(("target", "message"), TARGETS)
def test_targets(out: Path, target: float | str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        run(task(mlp()), out, target)


@pytest.mark.parametrize("target", [8, None])
@pytest.mark.parametrize(("tolerance", "message"), [("much", "'much' is not understood"), (-0.1, "cannot be used")])
def test_tolerances_before_any_work(out: Path, target: int | None, tolerance: float | str, message: str) -> None:
    with pytest.raises(BadInput, match=f"tolerance .*{message}"):
        compress_task(task(mlp()), out, target=target, tolerance=tolerance, progress=lambda step: pytest.fail("worked"))


def test_paths(out: Path) -> None:
    job = task(mlp())
    (out.parent / "folder").mkdir()
    (out.parent / "file").touch()
    for path in (out.parent / "missing" / "x.nwt", out.parent / "folder", out.parent / "file" / "x.nwt"):
        with pytest.raises(BadInput, match=f"cannot write {path}: "):
            run(job, path, 8)
    (out.parent / "folder").rmdir()
    (out.parent / "file").unlink()


OUTPUTS: list[tuple[Callable[[Tensor], Any], str]] = [
    (lambda logits: logits.argmax(1), r"outputs on calib are \(8,\) torch.int64: expected floating-point outputs"),
    (lambda logits: logits.round().long(), r"are \(8, 4\) torch.int64: expected floating-point"),
    (lambda logits: logits[:, 0], r"are \(8,\) torch.float32: expected floating-point outputs \(B, ..., K\)"),
    (lambda logits: logits.mean(), r"are \(\) torch.float32: expected"),
    (lambda logits: logits.reshape(-1, 2), r"are \(16, 2\) torch.float32: .* here of B = 8 samples"),
    (lambda logits: logits * torch.nan, "outputs on calib hold NaN or infinite values: expected finite outputs"),
    (lambda logits: logits.round(), "no parameter influences the model's outputs on calib"),
    (lambda logits: logits.tolist(), "the model returned list: expected a tensor"),
]


@pytest.mark.parametrize(("spoil", "message"), OUTPUTS, ids=[message for _, message in OUTPUTS])
def test_outputs(out: Path, spoil: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        run(task(mlp(), forward=lambda model, batch: spoil(model(data.inputs(batch)))), out, 8)


@pytest.mark.parametrize("augment", [None, lambda batch: batch])
def test_one_sample_that_gives_nan(out: Path, augment: Any) -> None:
    """Wherever it comes in calib, and whether or not outputs are kept in memory."""
    job = task(mlp(), augment=augment)
    job.calib[2][50] = torch.inf  # type: ignore[index]
    with pytest.raises(BadInput, match="outputs on calib hold NaN or infinite values: expected finite outputs"):
        run(job, out, 8)


def test_a_model_that_returns_no_tensor(out: Path) -> None:
    class Silent(nn.Linear):
        def forward(self, x: Tensor) -> Any:
            return {"text": "hello"}

    x, y = torch.randn(100, 20), torch.zeros(100).long()
    job = Task(Silent(20, 4), lambda model, batch: batch[1].float(), [x], [(x + 1, y)])
    with pytest.raises(BadInput, match="the model returned dict: expected a tensor, a tuple with one in front"):
        run(job, out, 8)


def test_unknown_distillation(out: Path) -> None:
    with pytest.raises(BadInput, match="distill of a task is 'l7': expected one of kl, mse, cosine"):
        run(task(mlp(), distill="l7"), out, 8)


def test_a_model_without_weights(out: Path) -> None:
    job = task(mlp())
    with pytest.raises(BadInput, match="no floating-point parameter to compress"):
        run(replace(job, model=nn.ReLU(), loss=lambda model, batch: batch[1].float()), out, 8)


def fail_in_verification(message: str) -> Callable[..., Tensor]:
    """A loss that fails once the decoded model is asked, after tuning and writing."""
    asked = []

    def failing(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        asked.append(model)
        if model is not asked[0]:
            raise ArithmeticError(message)
        return F.cross_entropy(model(batch[0]), batch[1], reduction="none")

    return failing


@pytest.mark.parametrize("mode", [{"target": 8}, {"tolerance": "5%"}])
def test_a_loss_that_fails_in_the_end(out: Path, mode: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"loss of the compressed model fails in batch 0, .* ArithmeticError: at last"):
        run(replace(task(mlp()), loss=fail_in_verification("at last")), out, **mode)


@pytest.mark.parametrize("stage", ["tune", "write and verify"])
def test_interruption(out: Path, stage: str) -> None:
    def interrupt(step: ProgressLine) -> None:
        if step.stage == stage:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compress_task(task(mlp()), out, target=8, tolerance=None, options=Options(iterations=30), progress=interrupt)


def test_failures_leave_an_older_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "x.nwt"
    path.write_bytes(b"precious")
    no_outputs = task(mlp(), forward=lambda m, b: data.inputs(b).long())  # type: ignore[union-attr]
    for bad in (replace(task(mlp()), loss=fail_in_verification("late")), no_outputs):
        with pytest.raises(BadInput):
            run(bad, path, 8)
    with pytest.raises(NoWorseError):
        run(task(mlp()), path, 12, tolerance=0)
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == {"x.nwt": b"precious"}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bad") / "x.nwt"
    run(task(mlp()), path, 12)
    return path


def test_a_module_that_does_not_fit(written: Path) -> None:
    other = nn.Sequential(nn.Linear(20, 64), nn.ReLU(), nn.Linear(64, 5), nn.Linear(5, 5))
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(MismatchedModule, match=r"missing from the file: 3.weight, 3.bias; of another shape: 2.wei"):
        load_model(other, written)
    with pytest.raises(MismatchedModule, match=r"not in the module: 2.weight, 2.bias"):
        verify(written, nn.Sequential(nn.Linear(20, 64)), loss, task(mlp()).verify)
    assert all(torch.equal(value, before[name]) for name, value in other.state_dict().items())


@given(st.data())
def test_damage_never_passes(written: Path, data: st.DataObject) -> None:
    """Any flipped bit, any cut: CorruptFile by every reader, and the module is as it was."""
    content = bytearray(written.read_bytes())
    if data.draw(st.booleans()):
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    else:
        content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path = written.with_name("damaged.nwt")
    path.write_bytes(content)
    model, job = mlp(), task(mlp())
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(CorruptFile):
        load_model(model, path)
    with pytest.raises(CorruptFile):
        verify(path, model, loss, job.verify)
    with pytest.raises(CorruptFile), File(path) as file:
        file.check()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
