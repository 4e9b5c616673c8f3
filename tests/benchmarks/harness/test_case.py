from __future__ import annotations

import cmath
import math
import os

import pytest

from benchmarks.harness.case import CaseFailed, in_own_process
from noworse.task.task import TaskUnavailable
from zoo.packages import package_folder


def test_a_function_runs_in_another_process_with_its_environment() -> None:
    assert in_own_process(os.getpid) != os.getpid()
    assert in_own_process(math.hypot, 3, 4) == 5
    assert in_own_process(os.getenv, "OF_THE_CASE", environment={"OF_THE_CASE": "7"}) == "7"
    assert "OF_THE_CASE" not in os.environ


def test_an_error_in_there_is_one_here(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(CaseFailed, match="its process ended with 1"):
        in_own_process(math.sqrt, -1)
    assert "math domain error" in capfd.readouterr().err


def test_what_it_returns_must_be_json() -> None:
    with pytest.raises(CaseFailed):
        in_own_process(cmath.sqrt, -1)


def test_a_case_whose_packages_are_absent_is_unavailable_here_too() -> None:
    with pytest.raises(TaskUnavailable, match="its packages or data are absent"):
        in_own_process(package_folder, "no_package_of_this_name")
