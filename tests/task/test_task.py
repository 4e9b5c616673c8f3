from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import noworse as nw
from noworse.errors import BadInput
from noworse.task.data import forward
from noworse.task.task import Task, TaskUnavailable, load_task, takes_channels_last
from tests.tiny import task

BODY = """
    import torch
    from torch import nn
    from noworse.task.task import Task, TaskUnavailable

    def loss(model, batch):
        return model(batch).square().sum(1)

    def make():
        return Task(nn.Linear(3, 2), loss, [torch.zeros(20, 3)], [torch.ones(40, 3)])

    named = Task(nn.Linear(3, 2), loss, [], [], name="mine")
    class Group:
        inner = named
    def needs(argument): return make()
    def fails(): raise RuntimeError("no weights here")
    def unavailable(): raise TaskUnavailable("install something")
    def wrong(): return 3
    number = 3
"""


@pytest.fixture(autouse=True)
def _clean_imports() -> Iterator[None]:
    path, modules = list(sys.path), set(sys.modules)
    yield
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        if "task" in name or "pack" in name:
            del sys.modules[name]


def write(path: Path, body: str = BODY) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(body))
    return path


@pytest.mark.parametrize("attribute", ["make", "named", "Group.inner"])
def test_task_in_a_lone_file(tmp_path: Path, attribute: str) -> None:
    address = f"{write(tmp_path / 'json.py')}:{attribute}"  # named like a standard module, on purpose
    task = load_task(address)
    assert isinstance(task.model, nn.Linear)
    assert task.name == ("mine" if attribute != "make" else address)
    assert task.loss(task.model, torch.zeros(5, 3)).shape == (5,)


def test_lone_file_imports_its_neighbours(tmp_path: Path) -> None:
    write(tmp_path / "task_neighbour.py")
    path = write(tmp_path / "task_here.py", "from task_neighbour import make, named as other")
    assert load_task(f"{path}:make").name.endswith("make")
    assert load_task(f"{path}:other").name == "mine"


def test_file_in_a_package_keeps_its_package(tmp_path: Path) -> None:
    write(tmp_path / "packed" / "__init__.py", "")
    write(tmp_path / "packed" / "inner" / "__init__.py", "")
    write(tmp_path / "packed" / "parts.py")
    path = write(tmp_path / "packed" / "inner" / "tasks.py", "from ..parts import make\nfrom packed.parts import named")
    assert load_task(f"{path}:named").name == "mine"
    assert sys.modules["packed.inner.tasks"].__file__ == str(path)


def test_module_in_the_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "packdir" / "__init__.py", "")
    write(tmp_path / "packdir" / "tasks.py")
    monkeypatch.chdir(tmp_path)
    assert load_task("packdir.tasks:make").name == "packdir.tasks:make"


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("no_colon", "names no task"),
        (":make", "names no task"),
        ("FILE:", "names no task"),
        ("/nowhere/tasks.py:make", "/nowhere/tasks.py is no file"),
        ("no.such.package:make", "no.such.package cannot be imported: ModuleNotFoundError"),
        ("FILE:absent", "has no 'absent': expected one of fails, loss, make, named, needs, unavailable, wrong"),
        ("FILE:number", "is int: expected a Task or a function"),
        ("FILE:needs", "cannot be called without arguments: missing a required argument: 'argument'"),
        ("FILE:fails", "failed with RuntimeError: no weights here"),
        ("FILE:wrong", "returned int: expected a Task"),
    ],
)
def test_addresses_that_name_no_task(tmp_path: Path, address: str, message: str) -> None:
    path = write(tmp_path / "tasks.py")
    with pytest.raises(BadInput, match=message):
        load_task(address.replace("FILE", str(path)))


@pytest.mark.parametrize(("body", "kind"), [("def (", "SyntaxError"), ("import absent_thing", "ModuleNotFoundError")])
def test_file_that_cannot_be_imported(tmp_path: Path, body: str, kind: str) -> None:
    path = write(tmp_path / "broken_task.py", body)
    with pytest.raises(BadInput, match=f"broken_task.py cannot be imported: {kind}"):
        load_task(f"{path}:make")


def test_unavailable_task_says_so(tmp_path: Path) -> None:
    with pytest.raises(TaskUnavailable, match="install something"):
        load_task(f"{write(tmp_path / 'tasks.py')}:unavailable")
    path = write(tmp_path / "tasks_at_import.py", "from noworse.task.task import *\nraise TaskUnavailable('at import')")
    with pytest.raises(TaskUnavailable, match="at import"):
        load_task(f"{path}:make")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "net"}, "model of a task is str"),
        ({"loss": None}, "loss of a task is NoneType"),
        ({"metric": 3}, "metric of a task is int"),
        ({"distill": "magic"}, "distill of a task is 'magic': expected one of kl, mse, cosine"),
    ],
)
def test_task_fields_are_checked(change: dict[str, object], message: str) -> None:
    fields: dict[str, object] = {"model": nn.Linear(1, 1), "loss": len, "calib": [], "verify": []}
    with pytest.raises(BadInput, match=message):
        Task(**{**fields, **change})  # type: ignore[arg-type]


class Viewing(nn.Module):
    """A net as most tutorials write it: what the convolutions return is flattened by ``view``."""

    def __init__(self, how: str = "view", channels: int = 3) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.how, self.conv, self.fc = how, nn.Conv2d(channels, 8, 3), nn.Linear(8 * 6 * 6, 4)
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        return self.fc(x.view(len(x), -1) if self.how == "view" else x.reshape(len(x), -1))  # type: ignore[no-any-return]


class Striding(Viewing):
    """Reads memory as it lies, whatever the strides: the outputs differ between layouts."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv(x))
        return self.fc(x.as_strided((len(x), 8 * 6 * 6), (8 * 6 * 6, 1)))  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("model", "takes"),
    [(Viewing(), False), (Viewing("reshape"), True), (Striding(), False), (nn.Linear(8, 2), True)],
)
def test_which_models_take_channels_last(model: nn.Module, takes: bool) -> None:
    assert takes_channels_last(model, torch.randn(4, 3, 8, 8), forward) is takes


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("options", [{}, {"augment": lambda batch: batch}], ids=["plain", "augmented"])
def test_views_go_through_all_verbs(channels: int, options: dict[str, object], tmp_path: Path) -> None:
    job = task(Viewing("view", channels), channels, 8, 8, **options)
    small = nw.Options(iterations=3)
    report = nw.compress_task(job, tmp_path / "x.nwt", target=6, tolerance=None, options=small, progress=None)
    loaded = nw.load_model(Viewing("view", channels), tmp_path / "x.nwt")
    assert nw.verify(tmp_path / "x.nwt", job.model, job.loss, job.verify) == report.verdict
    assert loaded(job.verify[0][0]).shape == (200, 4)  # type: ignore[index]
    assert nw.quantize_task(job, bits=6, tolerance=None).mean_bits <= 6
    assert nw.decompose_task(job, drop=0.3, tolerance=None).chosen
