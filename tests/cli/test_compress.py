"""``noworse compress`` on tasks: what it prints, what it writes, how it exits."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from noworse.io import load_file
from tests.cli.outcome import Run, fails, single_object


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
        "compress", "tasks.py:tiny", "--target", 6, "-o", "y.nwt", "--set", "iterations=300", "--seed", 5, "--json",
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
        (["tasks.py:explosive", "-o", "n.nwt"], 2, "with ArithmeticError: boom: expected loss(model, batch)"),
    ],
)
def test_compress_bad_input(
    folder: Path, here: Callable[..., Run], arguments: list[str], code: int, message: str
) -> None:
    fails(here("compress", *arguments, "--quiet"), code, message)
    assert not list(folder.glob("n.nwt*"))


def test_what_needs_torch_says_so(noworse: Callable[..., Run], mixed_path: Path) -> None:
    found = noworse("compress", "tasks.py:tiny", "-o", "t.nwt", without="torch")
    fails(found, 2, "torch is not installed: pip install 'noworse[torch]'")
