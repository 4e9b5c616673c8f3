"""``noworse decompose`` on a small net: what it prints and writes, and how it exits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import noworse
from noworse.cli import main
from noworse.judge.verdict import judge
from noworse.model.factorised import Factorised
from tests.tiny import loss, redundant, task

TASKS = """
from tests.tiny import redundant, task

def net():
    return task(redundant())
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "decompose_tasks.py").write_text(TASKS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object) -> int:
    return main(["decompose", "decompose_tasks.py:net", "-o", "d.nwt", *map(str, arguments)])


def test_the_file_holds_the_module_that_was_judged(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--tolerance", 0.01, "--json") == 0
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert shown.out.count("\n") == 1
    assert "search 1/" in shown.err
    job = task(redundant())
    loaded = noworse.load_decomposed(redundant(), "d.nwt")
    assert list(report["chosen"]) == [name for name, part in loaded.named_modules() if isinstance(part, Factorised)]
    assert report["parameters"] == [sum(p.numel() for p in m.parameters()) for m in (job.model, loaded)]
    with torch.no_grad():
        original, found = (np.concatenate([loss(m, b).numpy() for b in job.verify]) for m in (job.model, loaded))
    verdict = judge(original, found, 0.01, looks=report["verdict"]["looks"])
    assert report["verdict"]["verdict"] == verdict.verdict
    assert report["verdict"]["upper_bound"] == pytest.approx(verdict.upper_bound, abs=1e-4)


def test_a_drop_of_chosen_layers(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--drop", 0.4, "--only", "0", "--preset", "svd", "--no-gate", "--quiet") == 0
    shown = capsys.readouterr()
    assert shown.err == ""
    assert "ranks: 0: " in shown.out
    assert "(flat)" in shown.out
    loaded = noworse.load_decomposed(redundant(), "d.nwt")
    rank = loaded[0][0].weight.shape[0]  # type: ignore[index]
    assert rank * (20 + 48) <= 0.6 * 20 * 48 < (rank + 1) * (20 + 48)


def test_a_tolerance_that_is_not_met(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--drop", 0.8, "--tolerance", 1e-9, "--json", "--quiet") == 3
    shown = capsys.readouterr()
    assert json.loads(shown.out)["verdict"]["tolerance"] == 1e-9
    assert shown.err.startswith("noworse: the tolerance was not met: ")
    assert not list(folder.glob("*d.nwt*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--drop", "half"], "drop is 'half'"),
        (["--drop", 1.5], "drop is 1.5"),
        (["--only", "blocks.*"], "no layer for only matches 'blocks.*': expected a name such as 0, 2"),
        (["--keep", "*"], "no layer can be decomposed"),
        (["--preset", "best"], "unknown preset 'best': expected one of default, svd"),
        (["--options", "none.json"], "none.json: No such file"),
        (["-o", "nowhere/d.nwt", "--drop", 0.3, "--no-gate"], "cannot write nowhere/d.nwt"),
    ],
)
def test_bad_input(folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[object], message: str) -> None:
    assert run("--quiet", *arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert not list(folder.glob("*d.nwt*"))
