from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from benchmarks.harness import run as module
from benchmarks.harness.row import Row, write
from benchmarks.harness.run import Run
from benchmarks.suites.ablation_cases import trials_of
from benchmarks.suites.ablations import MEASURES, results_of, rows_of


def test_what_an_earlier_run_stored_counts_as_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, *others = trials_of("transforms")
    measured = []

    def here(function: object, group: str, key: str, quick: bool, environment: object = None) -> dict[str, float]:
        measured.append(key)
        return dict.fromkeys(MEASURES, 30.0)

    monkeypatch.setattr(module, "in_own_process", here)
    known = [Row(f"{first}: {end}", 30.15, unit) for end, unit in MEASURES.values()]
    write([*known, Row(f"{others[0]}: ratio", 1.0, "x")], tmp_path / "known.json")
    options = argparse.Namespace(known=tmp_path / "known.json")
    rows = list(rows_of("transforms", Run(folder=tmp_path, options=options)))
    assert measured == others
    assert results_of(rows) == {
        first: dict.fromkeys(MEASURES, 30.15), **dict.fromkeys(others, dict.fromkeys(MEASURES, 30.0)),
    }  # fmt: skip
    assert rows[-1].value == pytest.approx(0.5)  # per cent that 30.15 is off 30
    assert rows[-1].ok
