"""The command line through subprocesses: what it prints, what it writes, how it exits."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file as load_safetensors

from noworse.cli import main
from noworse.format import File, pack, restamp
from noworse.io import load_file, save_file
from noworse.representation import Constant, Grid, Raw, Tied, pack_step

Run = subprocess.CompletedProcess[str]

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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("cli")
    (where / "tasks.py").write_text(textwrap.dedent(TASK))
    return where


@pytest.fixture(scope="module")
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


@pytest.fixture(scope="module")
def compressed(folder: Path, noworse: Callable[..., Run]) -> Run:
    """One compression, shared by the tests that need its file ``x.nwt``."""
    return noworse("compress", "tasks.py:tiny", "--target", 6, "-o", "x.nwt", "--iterations", 300, "--seed", 3)


def fails(found: Run, code: int, message: str) -> None:
    """The run ended with ``code``, nothing on standard output, and one line holding ``message``."""
    assert found.returncode == code, found.stderr
    assert "Traceback" not in found.stderr
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("noworse: ")
    assert message in last
    assert found.stdout == ""


def single_object(found: Run) -> dict[str, Any]:
    assert found.stdout.count("\n") == 1
    value: dict[str, Any] = json.loads(found.stdout)
    return value


@pytest.mark.slow
def test_compress_writes_the_file_it_reports(folder: Path, compressed: Run) -> None:
    assert compressed.returncode == 0, compressed.stderr
    size = (folder / "x.nwt").stat().st_size
    assert f"x.nwt: {size:,} bytes" in compressed.stdout
    assert "of the original on 1,000 samples" in compressed.stdout
    assert "300/300" in compressed.stderr
    assert sum(p.numel() for p in load_file(folder / "x.nwt").values()) * 4 / size >= 6


@pytest.mark.slow
def test_same_seed_same_bytes_and_json(folder: Path, compressed: Run, noworse: Callable[..., Run]) -> None:
    """In another process: hash seeds and the order of imports differ."""
    found = noworse(
        "compress", "tasks.py:tiny", "--target", 6, "-o", "y.nwt", "--set", "iterations=300", "--seed", 3, "--json",
        "--quiet",
    )  # fmt: skip
    assert found.returncode == 0
    assert found.stderr == ""
    report = single_object(found)
    assert report["size"] == (folder / "y.nwt").stat().st_size
    assert report["ratio"] == pytest.approx(report["original_size"] / report["size"])
    assert report["verdict"]["samples"] == 1000
    assert (folder / "x.nwt").read_bytes() == (folder / "y.nwt").read_bytes()


@pytest.mark.slow
def test_missed_tolerance_writes_nothing(folder: Path, noworse: Callable[..., Run]) -> None:
    found = noworse(
        "compress", "tasks.py:tiny", "--target", "600B", "--tolerance", 1e-9, "-o", "z.nwt", "--iterations", 30,
        "--json", "--quiet",
    )  # fmt: skip
    assert found.returncode == 3
    assert single_object(found)["verdict"]["verdict"] in ("worse", "inconclusive")
    assert len(found.stderr.splitlines()) == 1
    assert "Traceback" not in found.stderr
    assert not list(folder.glob("*z.nwt*"))


@pytest.mark.slow
def test_a_worse_file_is_no_success_unless_asked_for(folder: Path, noworse: Callable[..., Run]) -> None:
    """One per cent of the original's loss is the default tolerance also where a target is given."""
    words = ["compress", "tasks.py:tiny", "--target", "400B", "-o", "w.nwt", "--iterations", 5, "--json", "--quiet"]
    gated = noworse(*words)
    assert gated.returncode == 3
    assert single_object(gated)["verdict"]["verdict"] == "worse"
    assert not (folder / "w.nwt").exists()
    free = noworse(*words, "--no-gate")
    assert free.returncode == 0
    assert single_object(free)["verdict"]["verdict"] == "worse"
    assert (folder / "w.nwt").exists()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["tasks.py:absent", "-o", "n.nwt"], 2, "has no 'absent'"),
        (["absent.py:tiny", "-o", "n.nwt"], 2, "absent.py is no file"),
        (["tasks.py:unavailable", "-o", "n.nwt"], 2, "the weights are not installed"),
        (["tasks.py:tiny", "-o", "nowhere/n.nwt"], 2, "cannot write nowhere/n.nwt"),
        (["tasks.py:tiny", "-o", "n.nwt", "--target", "small"], 2, "target 'small'"),
        (["tasks.py:tiny", "-o", "n.nwt", "--target", "1000000"], 2, "target 1000000"),
        (["tasks.py:tiny", "-o", "n.nwt", "--set", "speed=3"], 2, "unknown option 'speed'"),
        (["tasks.py:tiny", "-o", "n.nwt", "--keep", "haed.*"], 2, "no tensor for keep matches 'haed.*'"),
        (["tasks.py:tiny", "-o", "n.nwt", "--set", "label_weight=1"], 2, "expected batches with labels"),
        (["tasks.py:tiny", "-o", "n.nwt", "--options", "none.json"], 2, "none.json: No such file"),
        (["tasks.py:scalar", "-o", "n.nwt"], 2, "single number: expected one loss per sample"),
        (["tasks.py:leaky", "-o", "n.nwt"], 2, "samples of verify are in calib too"),
        (["tasks.py:explosive", "-o", "n.nwt"], 1, "ArithmeticError: boom (--debug shows where)"),
    ],
)
def test_compress_bad_input(
    folder: Path, here: Callable[..., Run], arguments: list[str], code: int, message: str
) -> None:
    fails(here("compress", *arguments, "--quiet"), code, message)
    assert not list(folder.glob("*n.nwt*"))


@pytest.mark.slow
def test_verify_judges_by_what_it_is_asked(folder: Path, compressed: Run, noworse: Callable[..., Run]) -> None:
    before = (folder / "x.nwt").read_bytes()
    with File(before) as file:
        stored = file.verdict
    assert stored is not None
    found = noworse("verify", "tasks.py:tiny", "x.nwt", "--tolerance", "10", "--look", "2", "--looks", "2", "--json")
    assert found.returncode == 0
    verdict = single_object(found)
    assert (verdict["verdict"], verdict["looks"], verdict["tolerance"]) == ("no worse", 2, 10.0)
    assert verdict["upper_bound"] > stored["upper_bound"]
    assert verdict["mean_difference"] == pytest.approx(stored["mean_difference"], rel=1e-5)
    assert (folder / "x.nwt").read_bytes() == before
    (folder / "r.nwt").write_bytes(before)
    restamp(folder / "r.nwt", {**stored, "tolerance": 1e6, "confidence": 0.51, "verdict": "no worse"})
    strict = noworse("verify", "tasks.py:tiny", "r.nwt", "--tolerance", "0%", "--look", "2", "--looks", "2", "--record")
    assert strict.returncode == 3
    assert "look 2 of 2 at these samples" in strict.stdout
    assert "The file claims: no worse" in strict.stdout
    with File(folder / "r.nwt") as file:
        assert file.verdict is not None
        assert (file.verdict["looks"], file.verdict["tolerance"]) == (2, 0.0)
        file.check()


def test_verify_a_lossless_file(folder: Path, here: Callable[..., Run]) -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("cli_tasks", folder / "tasks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    save_file(module.net().state_dict(), folder / "lossless.nwt")
    found = here("verify", "tasks.py:tiny", "lossless.nwt")
    assert found.returncode == 0
    assert found.stdout.startswith("no worse: ")
    assert "0.00 % of the predictions changed" in found.stdout
    fails(here("verify", "tasks.py:explosive", "lossless.nwt"), 1, "boom")
    with pytest.raises(ArithmeticError, match="boom"):
        here("verify", "tasks.py:explosive", "lossless.nwt", "--debug")


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


@pytest.fixture(scope="module")
def mixed_path(folder: Path) -> Path:
    (folder / "mixed.nwt").write_bytes(mixed())
    return folder / "mixed.nwt"


NUMPY_ALONE = "torch scipy rich safetensors"


def test_decompress_with_numpy_alone_keeps_every_bit(
    folder: Path, mixed_path: Path, noworse: Callable[..., Run]
) -> None:
    found = noworse("decompress", mixed_path.name, "-o", "mixed.safetensors", "--json", without=NUMPY_ALONE)
    assert found.returncode == 0, found.stderr
    written = folder / "mixed.safetensors"
    assert single_object(found) == {
        "file": "mixed.nwt", "out": "mixed.safetensors", "tensors": 10, "size": written.stat().st_size
    }  # fmt: skip
    expected, tensors = load_file(mixed_path), load_safetensors(written)
    assert set(tensors) == set(expected)
    for name, tensor in expected.items():
        assert tensors[name].dtype == tensor.dtype
        assert tensors[name].shape == tensor.shape
        assert torch.equal(tensors[name].reshape(-1).view(torch.uint8), tensor.reshape(-1).view(torch.uint8))
    with safe_open(written, "pt") as file:
        assert json.loads(file.metadata()["noworse.ties"]) == {"b.tied": "a.weight"}
        assert file.metadata()["format"] == "pt"
    text = noworse("decompress", mixed_path.name, "-o", "again.safetensors", without=NUMPY_ALONE)
    assert "10 tensors" in text.stdout
    assert (folder / "again.safetensors").read_bytes() == written.read_bytes()


def test_inspect_with_numpy_alone(mixed_path: Path, noworse: Callable[..., Run]) -> None:
    found = noworse("inspect", mixed_path.name, "--json", without=NUMPY_ALONE)
    assert found.returncode == 0, found.stderr
    seen = single_object(found)
    size = mixed_path.stat().st_size
    assert seen["size"] == size == sum(seen["bytes"].values())
    assert seen["settings"] == {"seed": 1}
    assert seen["verdict"] == {"verdict": "no worse"}
    rows = {row["name"]: row for row in seen["tensors"]}
    kinds = ["grid", "grid", "tied", "constant", "raw", "raw", "raw", "raw", "raw", "raw"]
    assert [row["kind"] for row in rows.values()] == kinds
    weight = rows["a.weight"]
    values = load_file(mixed_path)["a.weight"]
    assert weight["sparsity"] == pytest.approx(float((values == 0).float().mean()))
    assert weight["bits_per_element"] == pytest.approx(8 * weight["bytes"] / 4096)
    assert rows["b.tied"]["tied_to"] == "a.weight"
    assert sum(row["bytes"] for row in rows.values()) == seen["bytes"]["payload"] + seen["bytes"]["tables"]
    decoded = load_file(mixed_path, framework="np")
    zeros = sum(int((values == 0).sum()) for name, values in decoded.items() if name != "b.tied")
    assert seen["sparsity"] == pytest.approx(zeros / seen["elements"])
    assert seen["elements"] == 4096 + 10 + 15 + 1 + 3 + 3 + 5 + 2


def test_inspect_prints_aligned_tables_that_sum_up(mixed_path: Path, noworse: Callable[..., Run]) -> None:
    text = noworse("inspect", mixed_path.name, without=NUMPY_ALONE).stdout
    tensors, costs, rest = text.split("\n\n")
    assert "\x1b" not in text
    assert r"g.name\x1b[31mred" in tensors
    assert "= a.weight" in tensors
    assert "64 x 64" in tensors
    assert len(tensors.splitlines()) == 10 + 4
    found = [re.fullmatch(r"(\w+) +([\d,]+) +[\d.]+ %", line) for line in costs.splitlines()]
    counts = [int(match[2].replace(",", "")) for match in found if match]
    assert sum(counts[:-1]) == counts[-1] == mixed_path.stat().st_size
    assert "settings: " in rest
    assert 'verdict: {"verdict": "no worse"}' in rest


@pytest.mark.parametrize("command", ["inspect", "decompress", "verify"])
@pytest.mark.parametrize("damage", ["flip", "cut", "text", "empty"])
def test_damaged_files(folder: Path, mixed_path: Path, noworse: Callable[..., Run], command: str, damage: str) -> None:
    content = bytearray(mixed_path.read_bytes())
    if damage == "flip":
        content[20] ^= 1
    else:
        content = {"cut": content[:-7], "text": bytearray(b"not a model"), "empty": bytearray()}[damage]
    (folder / "bad.nwt").write_bytes(content)
    arguments = {"decompress": ["bad.nwt", "-o", "bad.safetensors"], "verify": ["tasks.py:tiny", "bad.nwt"]}
    fails(noworse(command, *arguments.get(command, ["bad.nwt"])), 4, "damaged file: ")
    assert not list(folder.glob("*bad.safetensors*"))


def test_files_that_are_not_there_or_not_writable(mixed_path: Path, noworse: Callable[..., Run]) -> None:
    fails(noworse("inspect", "absent.nwt"), 2, "absent.nwt: No such file or directory")
    fails(noworse("decompress", "absent.nwt", "-o", "a.safetensors"), 2, "absent.nwt")
    fails(noworse("decompress", mixed_path.name, "-o", "no/where.safetensors"), 2, "cannot write no/where")
    fails(noworse("inspect", mixed_path.name, "--max-bytes", 10), 4, "10")


def test_file_of_another_model(mixed_path: Path, here: Callable[..., Run]) -> None:
    (mixed_path.parent / "plain.nwt").write_bytes(pack({"w": Constant(b"\0" * 4, (2,), "float32")}, {}, None))
    fails(here("verify", "tasks.py:tiny", "plain.nwt"), 2, "0.weight")


def test_what_needs_torch_says_so(noworse: Callable[..., Run], mixed_path: Path) -> None:
    found = noworse("compress", "tasks.py:tiny", "-o", "t.nwt", without="torch")
    fails(found, 2, "torch is not installed: pip install 'noworse[torch]'")


@pytest.mark.parametrize("arguments", [[], ["shrink"], ["compress", "tasks.py:tiny"], ["inspect"], ["inspect", "--no"]])
def test_usage_errors(noworse: Callable[..., Run], arguments: list[str]) -> None:
    found = noworse(*arguments)
    assert found.returncode == 2
    assert found.stderr.startswith("usage: ")
    assert found.stdout == ""


def test_version_help_and_module(noworse: Callable[..., Run]) -> None:
    from noworse import __version__

    assert noworse("--version").stdout == f"noworse {__version__}\n"
    text = noworse("compress", "--help").stdout
    for option in ("target", "tolerance", "seed", "iterations", "coder", "set", "preset", "options", "quiet", "json"):
        assert f"--{option}" in text
    shown = subprocess.run([sys.executable, "-m", "noworse", "--version"], capture_output=True, text=True, check=True)
    assert __version__ in shown.stdout
