"""Runs that are interrupted anywhere and go on from their work directory: the same bytes as without."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open as safetensors_open
from torch import Tensor, nn

from noworse import BadInput, CorruptFile, Options, TargetMissed
from noworse.jobs.compress import compress_task
from noworse.jobs.decompose import decompose_task
from noworse.jobs.quantize import quantize_task
from noworse.run import resume as work
from noworse.run.resume import (
    NAME,
    RunCheckpoint,
    State,
    Work,
    batches_digest,
    content,
    digest,
    module_digest,
    write_checkpoint,
)
from noworse.task.task import Task
from noworse.tune.progress import ProgressLine
from tests.tiny import loss, mlp, task


def test_everything_of_a_tensor_counts() -> None:
    x = torch.arange(6.0).view(2, 3)
    others = [("y", x), ("x", x.view(3, 2)), ("x", x.int()), ("x", -x)]
    digests = {digest([("x", x)]), digest([("x", x)], "text"), *(digest([other]) for other in others)}
    assert len(digests) == 6
    assert digest([("x", x.t().contiguous().t())]) == digest([("x", x)])


def test_contents_are_the_elements_in_their_order() -> None:
    x = torch.arange(6, dtype=torch.int16).view(2, 3)
    assert bytes(content(x.t())) == x.t().contiguous().numpy().tobytes()
    assert len(content(torch.zeros(0, 4))) == 0
    assert len(content(torch.zeros(3, dtype=torch.bfloat16))) == 6


def test_of_models_and_of_batches() -> None:
    assert module_digest(mlp()) == module_digest(mlp())
    changed = mlp()
    with torch.no_grad():
        changed[0].bias[0] += 1e-6  # type: ignore[index, operator]
    assert module_digest(changed) != module_digest(mlp())
    first, second = torch.zeros(2), torch.ones(2)
    assert batches_digest([first, second]) == batches_digest([first.clone(), second]) != batches_digest([second, first])


dumps = json.dumps
OPTIONS = Options(iterations=30, batch=32, coder="fast")
ROOT = Path(__file__).parents[2]


class Killed(BaseException):
    """Not an Exception: nothing in the package may handle it."""


@pytest.fixture(autouse=True)
def _a_checkpoint_after_every_iteration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "EVERY", 0.0)


def jitter(batch: Tensor) -> Tensor:
    return batch + 0.05 * torch.randn_like(batch)


def killing(draws: int) -> Callable[[Tensor], Tensor]:
    """``jitter`` that ends everything at its ``draws``-th call."""
    seen: list[int] = []

    def augment(batch: Tensor) -> Tensor:
        seen.append(1)
        if len(seen) == draws:
            raise Killed
        return jitter(batch)

    return augment


def compress(folder: Path, name: str, draws: int = 0, stop: str = "", **given: Any) -> bytes:
    """The file of a run in ``folder``, killed at a draw of calibration data or at a stage, if asked for."""

    def progress(step: ProgressLine) -> None:
        if stop and step.stage == stop:
            raise Killed

    job = dataclasses.replace(task(mlp()), augment=killing(draws) if draws else jitter)
    settings: dict[str, Any] = {"target": 14, "tolerance": None, "options": OPTIONS, **given}
    compress_task(job, folder / f"{name}.nwt", **{"work": folder / "work", "progress": progress, **settings})
    return (folder / f"{name}.nwt").read_bytes()


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_a_run_killed_several_times_gives_the_same_file(precision: str, tmp_path: Path) -> None:
    options = dataclasses.replace(OPTIONS, precision=precision)
    whole = compress(tmp_path, "whole", options=options)
    for draws in (1, 4, 9, 9, 7):  # since the last checkpoint: the first time there is none yet
        with pytest.raises(Killed):
            compress(tmp_path, "x", draws=draws, options=options)
        assert not list(tmp_path.glob(".*.tmp")), "nothing half-written is left"
    with pytest.raises(Killed):
        compress(tmp_path, "x", stop="write and verify", options=options)
    assert compress(tmp_path, "x", options=options) == whole
    assert not (tmp_path / "work").exists(), "a finished run cleans up"


def test_the_search_within_a_tolerance_goes_on(tmp_path: Path) -> None:
    settings = {"target": None, "tolerance": 0.02, "options": OPTIONS}

    def outcome(name: str, **given: Any) -> bytes:
        try:
            return compress(tmp_path, name, **settings, **given)
        except TargetMissed as missed:
            return missed.file

    whole = outcome("whole")
    for stop in ("search 1/3", "search 3/3", "tune, look 1", "write and verify"):
        with pytest.raises(Killed):
            outcome("x", stop=stop)
    assert outcome("x") == whole


def test_looks_that_failed_are_not_repeated(tmp_path: Path) -> None:
    """A loss that forgives no change passes no look: a run killed in the second one goes on there."""
    original = mlp()[0].weight.clone()  # type: ignore[index, union-attr, operator]

    def strict(model: nn.Module, batch: Any) -> Tensor:
        return loss(model, batch) + float(not torch.equal(model[0].weight, original))  # type: ignore[index]

    harder = task(mlp(), loss=strict)
    settings: dict[str, Any] = {"tolerance": 0.1, "options": dataclasses.replace(OPTIONS, looks=2)}

    def fail(name: str, stop: str = "") -> tuple[bytes, list[str]]:
        stages: list[str] = []

        def progress(step: ProgressLine) -> None:
            stages.append(step.stage)
            if step.stage == stop:
                raise Killed

        with pytest.raises(TargetMissed) as missed:
            compress_task(harder, tmp_path / name, progress=progress, work=tmp_path / f"{name} work", **settings)
        return missed.value.file, stages

    whole, _ = fail("whole")
    with pytest.raises(Killed):
        fail("x", stop="tune, look 2")
    again, stages = fail("x")
    assert again == whole
    tuned = {name for name in stages if name.startswith(("tune", "search", "write"))}
    assert tuned == {"tune, look 2", "write and verify"}
    assert not (tmp_path / "x work").exists()


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"options": dataclasses.replace(OPTIONS, iterations=31)}, "options differs"),
        ({"target": 13, "options": dataclasses.replace(OPTIONS, seed=1)}, "options and target differ:"),
        ({"tolerance": 0.5}, "tolerance differs"),
    ],
)
def test_a_folder_of_another_run_is_refused(change: dict[str, Any], what: str, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        compress(tmp_path, "x", draws=3)
    before = (tmp_path / "work" / NAME).read_bytes()
    with pytest.raises(BadInput, match=f"work holds another run, whose {what}"):
        compress(tmp_path, "x", **change)
    assert (tmp_path / "work" / NAME).read_bytes() == before


def test_another_model_or_other_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        compress(tmp_path, "x", draws=3)
    model = mlp()
    with torch.no_grad():
        model[0].bias[0] += 1e-6  # type: ignore[index, operator]
    job = Task(model, task(mlp()).loss, list(task(mlp()).calib)[::-1], task(mlp()).verify)
    with pytest.raises(BadInput, match="another run, whose the model and calib differ"):
        compress_task(
            job, tmp_path / "x.nwt", target=14, tolerance=None, options=OPTIONS, work=tmp_path / "work", progress=None
        )


@pytest.mark.parametrize("damage", ["truncated", "flipped", "header", "empty", "other"])
def test_a_damaged_checkpoint_is_named(damage: str, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        compress(tmp_path, "x", draws=3)
    path = tmp_path / "work" / NAME
    content = bytearray(path.read_bytes())
    if damage == "flipped":
        content[-7] ^= 4
    elif damage == "header":
        content[content.index(b'"iteration\\"')] ^= 1
    path.write_bytes({"truncated": content[:-3], "empty": b"", "other": b"\2" + bytes(7) + b"{}"}.get(damage, content))
    with pytest.raises(CorruptFile, match=rf"work/{NAME} is a damaged checkpoint"):
        compress(tmp_path, "x")


def test_a_checkpoint_is_a_safetensors_file(tmp_path: Path) -> None:
    from safetensors.torch import load_file

    tensors = {"a": torch.randn(3, 5), "b": torch.arange(4), "none": torch.zeros(0, dtype=torch.uint8)}
    values = {"given": {}, "notes": {"x": [1, 0.1, None]}, "position": {"stage": "tune"}}
    write_checkpoint(tmp_path / "x.safetensors", tensors, values)
    found = load_file(tmp_path / "x.safetensors")
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())
    checkpoint = RunCheckpoint(tmp_path / "x.safetensors")
    assert checkpoint.values == values
    read = torch.empty(3, 5)
    checkpoint.read_into("a", read)
    assert torch.equal(read, tensors["a"])
    for name, wrong in (("a", torch.empty(5, 3)), ("a", torch.empty(3, 5).long()), ("c", torch.empty(1))):
        with pytest.raises(CorruptFile):
            checkpoint.read_into(name, wrong)


def test_other_files_in_the_folder_stay(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    found = Work(tmp_path, {})
    found.offer(lambda: State({}, {"stage": "tune"}))
    assert (tmp_path / NAME).exists()
    found.clean()
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_without_a_folder_nothing_is_kept_between_runs(tmp_path: Path) -> None:
    first, second = work.NOWHERE, Work(None, {})
    noted = [each.note("budget 1", functools.partial(int, k)) for k, each in enumerate((first, first, second))]
    assert noted == [0, 1, 2]

    def size(tolerance: float) -> int:
        try:
            return len(compress(tmp_path, "x", target=None, tolerance=tolerance, options=OPTIONS, work=None))
        except TargetMissed as missed:
            return len(missed.file)

    assert size(0.01) > size(0.5)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match=r"cannot use .*file/work to work in"):
        Work(tmp_path / "file" / "work", {})


@pytest.mark.slow
def test_a_process_killed_for_good_goes_on_from_the_command_line(tmp_path: Path) -> None:
    text = ["from noworse.run import resume as work", "from tests.tiny import loss, mlp, task", "work.EVERY = 0"]
    (tmp_path / "net.py").write_text("\n".join([*text, "def job():", "    return task(mlp())", ""]))
    given = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}

    def start(name: str) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "noworse", "compress", f"{tmp_path}/net.py:job", "-o", str(tmp_path / name)]
        words += ["--target", "14", "--iterations", "200", "--coder", "fast", "--json"]
        words += ["--work", str(tmp_path / f"{name} work"), "--no-gate"]
        return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=given, cwd=ROOT)

    killed = start("x.nwt")
    checkpoint = tmp_path / "x.nwt work" / NAME
    while not checkpoint.exists() and killed.poll() is None:
        time.sleep(0.01)
    time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert checkpoint.exists(), "killed in the middle"
    assert not (tmp_path / "x.nwt").exists()
    for name in ("x.nwt", "whole.nwt"):
        process = start(name)
        printed, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert json.loads(printed)["size"] == (tmp_path / name).stat().st_size
    assert (tmp_path / "x.nwt").read_bytes() == (tmp_path / "whole.nwt").read_bytes()


def forged(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """Change the values of a checkpoint, its digest as it should be."""
    with safetensors_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        values = json.loads(file.metadata()["values"])
    write_checkpoint(path, tensors, change(values))


def at(*place: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    def change(values: dict[str, Any]) -> dict[str, Any]:
        inner = values
        for name in place[:-1]:
            inner = inner[name]
        if value is None:
            del inner[place[-1]]
        else:
            inner[place[-1]] = value
        return values

    return change


@pytest.mark.parametrize(
    "values",
    [
        [1, 2],
        {},
        {"given": [], "notes": {}, "position": {"stage": ""}},
        {"given": {}, "notes": 3, "position": {"stage": ""}},
        {"given": {}, "notes": {}, "position": {"stage": 1}},
        {"given": {}, "notes": {}, "position": None},
        {"given": {}, "notes": {}, "position": "here"},
        {"given": {}, "notes": {}},
    ],
)
def test_values_of_another_form_are_named(values: Any, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / NAME, {}, values)
    with pytest.raises(CorruptFile, match=rf"{NAME} is a damaged checkpoint"):
        Work(tmp_path, {})


@pytest.mark.parametrize(
    "change",
    [
        at("position", "controller", value={"update": 1.0, "error": 2.0, "multiplier": 3.0}),
        at("position", "drawn", value=True),
    ],
)
def test_a_forged_position_is_named(change: Any, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        compress(tmp_path, "x", draws=3)
    forged(tmp_path / "work" / NAME, change)
    with pytest.raises(CorruptFile, match=rf"work/{NAME} is a damaged checkpoint"):
        compress(tmp_path, "x")


@pytest.mark.parametrize(("found", "form", "expected"), [
    (1, 0.0, True), (0.5, 0, False), (True, 0, False), (True, 0.0, False), ("a", "", True), (None, {}, False),
    ({"a": 1}, {}, True), ([1], [2], True), ([1, 2], [2], False), ({"a": 1}, {"b": 1}, False), ([], {}, False),
])  # fmt: skip
def test_forms(found: Any, form: Any, expected: bool) -> None:
    assert work.alike(found, form) is expected


@pytest.mark.parametrize("value", ["1e5", float("nan")])
def test_a_forged_budget_is_named(value: Any, tmp_path: Path) -> None:
    settings = {"target": None, "tolerance": 0.02, "options": OPTIONS}
    with pytest.raises(Killed):
        compress(tmp_path, "x", stop="search 2/3", **settings)
    forged(tmp_path / "work" / NAME, at("notes", "budget 1", value=value))
    with pytest.raises(CorruptFile, match=rf"work/{NAME} is a damaged checkpoint"):
        compress(tmp_path, "x", **settings)


def test_values_that_no_parser_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for text in ("[" * 200_000, "1" * 200_000, "{"):
        monkeypatch.setattr(work.json, "dumps", lambda *a, text=text: text if a and "x" in a[0] else dumps(*a))
        write_checkpoint(tmp_path / NAME, {}, {"x": 1})
        monkeypatch.undo()
        with pytest.raises(CorruptFile, match=rf"{NAME} is a damaged checkpoint"):
            RunCheckpoint(tmp_path / NAME)


VERBS: dict[str, Callable[..., Any]] = {
    "quantize, a search": functools.partial(quantize_task, tolerance="20%"),
    "quantize, bits": functools.partial(quantize_task, bits=4, tolerance=None),
    "decompose, a search": functools.partial(decompose_task, tolerance="20%"),
    "decompose, drop": functools.partial(decompose_task, drop=0.4, tolerance=None),
}


@pytest.mark.parametrize("verb", VERBS)
def test_verbs_without_tuning_go_on(verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed after some steps, again and again: the same file, and no step is made twice."""
    offer, steps, end = Work.offer, [], 0

    def killing(self: Work, *given: Any) -> None:
        offer(self, *given)
        steps.append(1)
        if len(steps) == end:
            raise Killed

    job, folder = task(mlp()), tmp_path / "work"
    expected = VERBS[verb](job, tmp_path / "a.nwt", progress=None)
    monkeypatch.setattr(Work, "offer", killing)
    VERBS[verb](job, tmp_path / "b.nwt", work=folder, progress=None)
    count = len(steps)
    assert count >= 4
    steps.clear()
    for end in (1, count // 2, count - 1):  # noqa: B007  (``killing`` asks for it)
        with pytest.raises(Killed):
            VERBS[verb](job, tmp_path / "c.nwt", work=folder, progress=None)
        assert (folder / NAME).exists()
    found = VERBS[verb](job, tmp_path / "c.nwt", work=folder, progress=None)
    assert len(steps) == count
    assert not folder.exists()
    assert found.verdict == expected.verdict
    assert len({(tmp_path / f"{name}.nwt").read_bytes() for name in "abc"}) == 1


def test_a_miss_leaves_nothing_to_go_on_from(tmp_path: Path) -> None:
    for verb in (functools.partial(quantize_task, bits=2), functools.partial(decompose_task, drop=0.9)):
        with pytest.raises(TargetMissed, match="tolerance was not met"):
            verb(task(mlp()), tolerance=1e-6, work=tmp_path / "work", progress=None)
        assert not (tmp_path / "work").exists()


def test_what_is_kept_must_be_there(tmp_path: Path) -> None:
    """A checkpoint that names more than it holds, and one whose count is none."""
    for count in (2, "two"):
        values = {"given": {}, "notes": {"x": count}, "position": {"stage": "x"}}
        write_checkpoint(tmp_path / NAME, {"x, 0": torch.zeros(1)}, values)
        with pytest.raises(CorruptFile, match="damaged checkpoint"):
            Work(tmp_path, {}).keep("x", lambda: [torch.zeros(1)])
