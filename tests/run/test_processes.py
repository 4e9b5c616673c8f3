"""Two processes that compress together: real ones, over gloo."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from noworse.propose.grids.shares import Shares
from noworse.run.processes import TIMEOUT, World
from tests.rank_worker import job, outcome
from tests.tiny import run

CASES = (
    "plain", "plain-again", "jitter", "single", "untuned", "whole", "stopped", "resumed", "other data",
    "other images", "refuse", "crash", "die",
)
ROOT = Path(__file__).parents[2]


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def environment(**changes: str) -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **changes}


Outcomes = list[dict[str, dict[str, Any]]]


def on_ranks(folder: Path, cases: Sequence[str], size: int = 2) -> tuple[Outcomes, list[int]]:
    """What came of every case on each rank, and how the ranks ended: long before a silent one would count as lost."""
    port, processes = free_port(), []
    for rank in range(size):
        variables = environment(RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
        words = [sys.executable, "-m", "tests.rank_worker", str(folder), *cases]
        processes.append(subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=variables, cwd=ROOT))
    try:
        printed = [process.communicate(timeout=TIMEOUT / 6)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    found = [{each["name"]: each for each in map(json.loads, text.splitlines())} for text in printed]
    return found, [process.returncode for process in processes]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What came of every case on each of two ranks, which live through all of them but the last."""
    found, ends = on_ranks(tmp_path_factory.mktemp("ranks"), CASES)
    assert ends[0] == 0
    return found


@pytest.mark.parametrize("name", ["plain", "jitter"])
def test_two_ranks_do_what_one_process_does(outcomes: Outcomes, name: str, tmp_path: Path) -> None:
    """Sums over shares round differently: sizes and losses agree, bytes need not."""
    alone = run(job(name, 0), tmp_path / "x.nwt", 14, iterations=40, batch=30)
    report = outcomes[0][name]["report"]
    assert report["size"] == pytest.approx(alone.size, rel=0.005)
    one, two = alone.verdict, report["verdict"]
    assert one.lower_bound <= two["mean_difference"] <= one.upper_bound
    assert two["original_loss"] == pytest.approx(one.original_loss)
    assert report["settings"] == alone.settings
    assert two["metric_original"] == one.metric_original  # by the last rank, of all samples
    assert (two["metric_compressed"] is None) == (name == "plain")
    assert two["changed"] == pytest.approx(one.changed, abs=0.02)


@pytest.mark.parametrize("name", ["untuned", "single"])
def test_two_ranks_give_the_bytes_of_one_process(outcomes: Outcomes, name: str, tmp_path: Path) -> None:
    """Batches, layers and tensors are divided, and what comes of them is put together in the order of one process.

    Of batches of one sample one rank has all: no sum of tuning rounds otherwise.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        alone = outcome(name, tmp_path, 0)
    finally:
        torch.set_num_threads(threads)
    assert outcomes[0][name]["digest"] == alone["digest"]


def test_a_rank_without_a_tensor_takes_part(outcomes: Outcomes, tmp_path: Path) -> None:
    assert len(Shares(World(2, 3), [4, 64, 256, 1280]).own) == 0  # as of the net in these cases
    found, _ = on_ranks(tmp_path, ["untuned", "single"], size=3)
    for name in ("untuned", "single"):
        assert found[0][name]["digest"] == outcomes[0][name]["digest"]


def test_repeats_are_identical_and_ranks_report_the_same(outcomes: Outcomes) -> None:
    first, second = outcomes
    assert first["plain"]["digest"] == first["plain-again"]["digest"]
    assert first["plain"]["report"] == second["plain"]["report"]
    assert first["plain"]["report"]["seconds"] > 0


def test_a_rank_without_a_share_takes_part(outcomes: Outcomes) -> None:
    assert World(0, 2).rows(1) == slice(0, 0)
    assert outcomes[0]["single"]["report"] == outcomes[1]["single"]["report"]


@given(st.integers(0, 100), st.integers(1, 9))
def test_shares_are_all_samples_once(count: int, size: int) -> None:
    shares = [list(range(count))[World(rank, size).rows(count)] for rank in range(size)]
    assert list(itertools.chain(*shares)) == list(range(count))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.integers(0, 100), st.integers(1, 9), st.booleans())
def test_every_batch_is_taken_once(number: int, size: int, spare: bool) -> None:
    takes = [World(rank, size).takes(number, spare) for rank in range(size)]
    assert sum(takes) == 1
    assert not (spare and size > 1 and takes[-1])


@pytest.mark.parametrize(
    ("name", "error", "own", "other"),
    [
        ("other data", "BadInput", "calib differ from rank 0's", "rank 1: calib differ"),
        ("other images", "BadInput", "verify differ from rank 0's", "rank 1: verify differ"),
        ("refuse", "BadInput", "this sample cannot be used", "rank 1: this sample cannot be used"),
    ],
)
def test_a_bad_input_of_one_rank_ends_all(outcomes: Outcomes, name: str, error: str, own: str, other: str) -> None:
    for found, message in ((outcomes[1][name], own), (outcomes[0][name], other)):
        assert found["error"] == error
        assert found["message"].startswith(message)
        assert f"{name}.nwt" not in found["left"]
    assert not any(name in left for left in outcomes[0][name]["left"])


def test_a_run_of_two_ranks_goes_on_after_one_of_them_failed(outcomes: Outcomes) -> None:
    assert [found["stopped"]["error"] for found in outcomes] == ["BadInput", "BadInput"]
    assert outcomes[0]["stopped"]["left"].count("work") == 1
    assert outcomes[0]["resumed"]["digest"] == outcomes[0]["whole"]["digest"]
    assert "work" not in outcomes[0]["crash"]["left"]


def test_a_crash_of_one_rank_is_named_on_the_others(outcomes: Outcomes) -> None:
    assert outcomes[0]["crash"]["error"] == "BadInput"  # what fails in a caller's function is the caller's to mend
    assert outcomes[0]["crash"]["message"].startswith("rank 1: augment")
    assert "ZeroDivisionError: a bug of the caller's" in outcomes[0]["crash"]["message"]


def test_a_rank_that_dies_is_named(outcomes: Outcomes) -> None:
    assert "die" not in outcomes[1]
    assert outcomes[0]["die"]["error"] == "RankFailed"
    assert outcomes[0]["die"]["message"].startswith("rank 1 of 2 was lost: ")
    assert not any("die" in name for name in outcomes[0]["die"]["left"]), "nothing half-written stays"


@pytest.mark.parametrize("who", [0, 1])
def test_a_rank_that_dies_in_the_survey_ends_all_and_the_run_goes_on(
    who: int, outcomes: Outcomes, tmp_path: Path
) -> None:
    name, other = f"rank {who} dies", 1 - who
    found, ends = on_ranks(tmp_path, [name])
    assert ends[who] == -signal.SIGKILL
    assert ends[other] == 0
    assert found[other][name]["error"] == "RankFailed"
    assert found[other][name]["message"].startswith(f"rank {who} of 2 was lost: ")
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
    assert not list((tmp_path / "work").iterdir())
    resumed, _ = on_ranks(tmp_path, ["resumed"])
    assert resumed[0]["resumed"]["digest"] == outcomes[0]["whole"]["digest"]


@pytest.mark.slow
def test_the_command_line_under_torchrun(tmp_path: Path) -> None:
    task_file = tmp_path / "net.py"
    task_file.write_text("from tests.tiny import mlp, task\n\ndef job():\n    return task(mlp())\n")
    words = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", free_port(), "-m", "noworse"]
    words += ["compress", f"{task_file}:job", "-o", str(tmp_path / "x.nwt"), "--target", "14", "--no-gate"]
    words += ["--iterations", "20"]
    done = subprocess.run(
        [sys.executable, *words, "--json"], capture_output=True, text=True, env=environment(), cwd=ROOT, timeout=300
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)  # of one rank alone
    assert report["size"] == (tmp_path / "x.nwt").stat().st_size
