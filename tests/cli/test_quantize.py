"""``noworse quantize`` on a small net: what it prints and writes, and how it exits."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import noworse
from noworse.cli import main
from noworse.format import File
from noworse.judge.verdict import judge
from noworse.model.quantized import activation_ranges
from tests.tiny import ConvNet, loss, task

TASKS = """
from tests.tiny import ConvNet, task

def conv():
    return task(ConvNet(), 1, 12, 12)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "quantize_tasks.py").write_text(TASKS)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: object) -> int:
    return main(["quantize", "quantize_tasks.py:conv", "-o", "q.nwt", *map(str, arguments)])


def test_the_file_holds_the_module_that_was_judged(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--tolerance", 0.05, "--json", "--seed", 1, "--set", "confidence=0.9") == 0
    shown = capsys.readouterr()
    report = json.loads(shown.out)
    assert shown.out.count("\n") == 1
    assert "search 1/" in shown.err
    loaded, job = noworse.load_quantized(ConvNet(), "q.nwt"), task(ConvNet(), 1, 12, 12)
    with torch.no_grad():
        original, found = (np.concatenate([loss(m, b).numpy() for b in job.verify]) for m in (job.model, loaded))
    verdict = judge(original, found, 0.05, 0.9, 1, report["verdict"]["looks"])
    assert report["verdict"]["verdict"] == verdict.verdict
    assert report["verdict"]["upper_bound"] == pytest.approx(verdict.upper_bound, abs=1e-4)
    weights = [row["weights"] * row["count"] for row in report["table"]]
    assert report["mean_bits"] == pytest.approx(sum(weights) / sum(row["count"] for row in report["table"]))
    with File(folder / "q.nwt") as file:
        assert (file.settings["seed"], file.settings["tolerance"]) == (1, "0.05")


def test_bits_and_activations(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--no-gate", "--quiet"]
    assert run("--bits", 4, "--activations", "off", *words) == 0
    text = capsys.readouterr()
    assert text.err == ""
    assert float(text.out.split(" bits per weight")[0]) <= 4
    assert "inputs as they are" in text.out
    assert not activation_ranges(noworse.load_quantized(ConvNet(), "q.nwt"))
    assert run("--bits", '{"conv1": 8, "fc": 4}', "--activations", 6, "--json", *words) == 0
    rows = json.loads(capsys.readouterr().out)["table"]
    assert [(row["name"], row["weights"], row["activations"]) for row in rows] == [
        ("conv1", 8, 6), ("conv2", 32, 6), ("fc", 4, 6)
    ]  # fmt: skip
    assert {found.bits for found in activation_ranges(noworse.load_quantized(ConvNet(), "q.nwt")).values()} == {6}


def test_a_tolerance_that_is_not_met(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--bits", 2.5, "--tolerance", 1e-9, "--json", "--quiet") == 3
    shown = capsys.readouterr()
    assert json.loads(shown.out)["verdict"]["tolerance"] == 1e-9
    assert shown.err.startswith("noworse: the tolerance was not met: ")
    assert shown.err.count("\n") == 1
    assert not list(folder.glob("*q.nwt*"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bits", "few"], "bits is 'few'"),
        (["--bits", 1.5, "--no-gate"], "smallest choice"),
        (["--bits", '{"nowhere": 4}'], "bits names nowhere"),
        (["--activations", 99], "activations is 99: expected True, False, or 2 to 16 bits"),
        (["--preset", "best"], "unknown preset 'best': expected one of default, paper"),
        (["--preset", "paper"], "needs calib with labels"),
        (["--keep", "haed.*"], "no tensor for keep matches 'haed.*'"),
        (["--set", "speed=3"], "unknown option 'speed'"),
        (["--no-gate", "--tolerance", 1], "--no-gate was given with --tolerance"),
        (["-o", "nowhere/q.nwt", "--bits", 8, "--no-gate"], "cannot write nowhere/q.nwt"),
    ],
)
def test_bad_input(
    folder: Path, capsys: pytest.CaptureFixture[str], arguments: list[object], message: str
) -> None:
    assert run("--quiet", *arguments) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert (shown.out, shown.err.count("\n")) == ("", 1)
    assert not list(folder.glob("*q.nwt*"))
