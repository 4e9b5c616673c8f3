from __future__ import annotations

import os
from pathlib import Path

import pytest

from benchmarks.harness import run as module
from benchmarks.harness.run import Run


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Arguments of cases, which run in this process and return them."""
    made: list[tuple[object, ...]] = []

    def here(function: object, *arguments: object, environment: object = None) -> list[object]:
        made.append(arguments)
        return list(arguments)

    monkeypatch.setattr(module, "in_own_process", here)
    return made


def test_a_case_is_measured_once_and_then_comes_from_the_folder(
    tmp_path: Path, calls: list[tuple[object, ...]]
) -> None:
    for _ in range(2):
        assert Run(folder=tmp_path).case("a case", os.getpid, 1, "b") == [1, "b"]
    assert calls == [(1, "b")]
    assert [path.name for path in tmp_path.iterdir()] == ["a_case.json"]


def test_quick_results_are_kept_apart_and_fresh_ones_are_made_once_a_run(
    tmp_path: Path, calls: list[tuple[object, ...]]
) -> None:
    Run(folder=tmp_path).case("a", os.getpid, 1)
    assert Run(quick=True, folder=tmp_path).case("a", os.getpid, 2) == [2]
    fresh = Run(folder=tmp_path, fresh=True)
    assert [fresh.case("a", os.getpid, number) for number in (3, 4)] == [[3], [3]]
    assert calls == [(1,), (2,), (3,)]


@pytest.mark.parametrize("workers", [1, 3])
def test_results_of_several_cases_are_in_the_order_of_their_keys(
    workers: int, tmp_path: Path, calls: list[tuple[object, ...]]
) -> None:
    arguments = {str(number): (number,) for number in range(9)}
    assert Run(folder=tmp_path, workers=workers).cases(os.getpid, arguments) == [[number] for number in range(9)]


def test_a_quick_run_takes_the_first_ones() -> None:
    assert Run().few([1, 2, 3]) == [1, 2, 3]
    assert Run(quick=True).few([1, 2, 3]) == [1]
    assert Run(quick=True).few((1, 2, 3), 2) == (1, 2)
