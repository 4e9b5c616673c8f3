"""The command line run in a folder with a file of tasks, in a process of its own or in this one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from noworse.cli import main
from noworse.format import pack
from noworse.representation import Constant, Grid, Raw, Tied, pack_step
from tests.cli.outcome import Run

TASK = """
    import torch
    from torch import nn
    from torch.nn import functional as F
    from noworse.task.task import Task, TaskUnavailable

    def net():
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 4))

    def loss(model, batch):
        return F.cross_entropy(model(batch[0]), batch[1], reduction="none")

    def tiny():
        generator = torch.Generator().manual_seed(1)
        x = torch.randn(1400, 16, generator=generator)
        model = net()
        y = (8 * model(x)).softmax(1).multinomial(1, generator=generator)[:, 0]
        held_out = list(zip(x[400:].split(250), y[400:].split(250)))
        accuracy = lambda m, batches: sum(int((m(a).argmax(1) == b).sum()) for a, b in batches) / 1000
        return Task(model, loss, list(x[:400].split(100)), held_out, metric=accuracy)

    def scalar():
        return Task(net(), lambda m, b: loss(m, b).mean(), tiny().calib, tiny().verify)

    def explosive():
        def burst(model, batch): raise ArithmeticError("boom")
        return Task(net(), burst, tiny().calib, tiny().verify)

    def leaky():
        return Task(net(), loss, [b[0] for b in tiny().verify], tiny().verify)

    def unavailable():
        raise TaskUnavailable("the weights are not installed")
"""


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("cli")
    (where / "tasks.py").write_text(textwrap.dedent(TASK))
    return where


@pytest.fixture(scope="session")
def noworse(folder: Path) -> Callable[..., Run]:
    def run(*arguments: object, without: str = "") -> Run:
        """Run the command line in ``folder``; ``without`` lists packages whose import is made to fail."""
        block = f"import sys; sys.modules.update(dict.fromkeys({without.split()!r})); "
        start = block + "from noworse.cli import main; raise SystemExit(main())"
        return subprocess.run(
            [sys.executable, "-c", start, *map(str, arguments)],
            cwd=folder,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run


@pytest.fixture
def here(folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Run]:
    """The same within this process, which has torch imported already: many error cases take no minute."""
    monkeypatch.chdir(folder)

    def run(*arguments: object) -> Run:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        shown = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, code, shown.out, shown.err)

    return run


@pytest.fixture(scope="session")
def compressed(folder: Path, noworse: Callable[..., Run]) -> Run:
    """One compression, shared by the tests that need its file ``x.nwt``."""
    return noworse("compress", "tasks.py:tiny", "--target", 6, "-o", "x.nwt", "--iterations", 300, "--seed", 5)


def mixed() -> bytes:
    """A file with every kind of tensor and many dtypes."""
    rng = np.random.default_rng(0)
    codes = np.rint(rng.laplace(0, 0.7, 4096)).astype(np.int32)
    small = np.rint(rng.laplace(0, 0.7, 10)).astype(np.int32)
    items = {
        "a.weight": Grid(codes, pack_step(0.01), 40, (64, 64), "float32"),
        "a.half": Grid(small, pack_step(0.5), 32, (10,), "bfloat16"),
        "b.tied": Tied("a.weight", (64, 64), "float32"),
        "c.ones": Constant(np.float16(1).tobytes(), (3, 5), "float16"),
        "d.count": Raw(np.array(7, np.int64).tobytes(), (), "int64"),
        "e.mask": Raw(bytes([1, 0, 1]), (3,), "bool"),
        "f.empty": Raw(b"", (0, 4), "float64"),
        "g.name\x1b[31mred": Raw(rng.bytes(6), (3,), "bfloat16"),
        "h.eight": Raw(bytes(range(5)), (5,), "float8_e4m3fn"),
        "i.complex": Raw(rng.normal(size=4).astype(np.float32).tobytes(), (2,), "complex64"),
    }
    return pack(items, {"seed": 1}, {"verdict": "no worse"})


@pytest.fixture(scope="session")
def mixed_path(folder: Path) -> Path:
    (folder / "mixed.nwt").write_bytes(mixed())
    return folder / "mixed.nwt"
