"""The command line makes the files that the verbs make, of one model of each group; the page has all models, once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import noworse as nw
from noworse.cli import main
from tests.conformance.check import FINE, OPTIONS, Run
from tests.conformance.page import PAGE, read
from tests.conformance.registry import zoo

ROOT = Path(__file__).parents[2]
COMMON = ("--no-gate", "--quiet")
ONE_OF_EACH = {
    "layers": "depthwise separable conv",
    "language": "swiglu",
    "recurrent": "packed sequences",
    "sharing": "weight norm by hooks",
    "calls": "two positional inputs",
    "tensors": "bfloat16 model",
    "wraps": "compiled model",
}


def address(name: str) -> str:
    return f"tests.conformance.tasks:{name.replace(' ', '_').replace('-', '_')}"


@pytest.mark.parametrize("name", ONE_OF_EACH.values())
def test_commands_make_the_files_of_the_verbs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    run, out, task = Run(zoo()[name], tmp_path), str(tmp_path / "m.nwt"), address(name)
    (tmp_path / "options.json").write_text(OPTIONS.to_json())
    options = ("--options", str(tmp_path / "options.json"))
    assert main(["compress", task, "-o", out, "--target", run.target, *options, *COMMON]) == 0
    nw.compress_task(run.task, tmp_path / "own.nwt", target=run.target, options=OPTIONS, **run.asked)
    assert Path(out).read_bytes() == (tmp_path / "own.nwt").read_bytes()
    assert main(["verify", task, out, "--tolerance", "100"]) == 0
    assert main(["inspect", out]) == 0
    assert main(["quantize", task, "-o", out, "--bits", "8", *COMMON]) == 0
    assert same_tensors(out, nw.quantize_task(run.task, bits=8, **run.asked).module)
    assert main(["decompose", task, "-o", out, "--drop", "0.05", *COMMON]) == 0
    assert same_tensors(out, nw.decompose_task(run.task, drop=0.05, **run.asked).module)
    torch.save(run.model.state_dict(), tmp_path / "m.pt")
    for how in (["--lossless"], ["--max-error", FINE]):
        assert main(["compress", str(tmp_path / "m.pt"), "-o", out, *how]) == 0


def same_tensors(path: str, module: Any) -> bool:
    found, state = nw.load_file(path), module.state_dict()
    return found.keys() == state.keys() and all(torch.equal(found[name], state[name]) for name in found)


def test_what_is_refused_is_one_line(tmp_path: Path) -> None:
    task, out = address("tie as a transposed view"), str(tmp_path / "m.nwt")
    command = [sys.executable, "-m", "noworse", "quantize", task, "-o", out, *COMMON]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "share memory" in done.stderr
    assert not Path(out).exists()


def test_the_page_has_every_model_once() -> None:
    assert set(read(PAGE.read_text())) == set(zoo())
    assert set(ONE_OF_EACH) == {case.group for case in zoo().values()}
