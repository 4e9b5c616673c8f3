"""The document of the ablations from results that are made up."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from benchmarks.ablation_cases import BASELINE, GROUPS, Run, runs_of
from benchmarks.ablation_report import by_seed, lines_of, publish, spread_of, verdict
from benchmarks.ablations import gather, put_known
from noworse.tune.options import Options


def result(run: Run, kl: float) -> dict[str, Any]:
    known = {"ratio": 30.0, "difference": 0.01, "lower": 0.0, "upper": 0.02, "changed": 0.1, "seconds": 1.0}
    return {"net": run.net, "key": run.key, "seed": run.seed, "kl": kl, **known}


@pytest.fixture
def results() -> dict[str, dict[str, Any]]:
    """Every run is about 0.01, wobbling with its seed, but those of a given rounding at twice that."""
    found = {}
    for _, run in runs_of(list(GROUPS)):
        wobble = 0.1 * run.seed * (1 if run.case is BASELINE else -1)
        found[run.key] = result(run, 0.01 * math.exp(wobble) * (2 if run.case.options.get("rounding") else 1))
    return found


def test_all_settings_are_options_and_all_keys_differ() -> None:
    runs = [run for _, run in runs_of(list(GROUPS))]
    for run in runs:
        Options(**{k: tuple(v) if isinstance(v, list) else v for k, v in run.options.items()})
    distinct = {(run.net, str(run.options), run.case.samples, run.case.labelled, run.case.prune) for run in runs}
    assert len({run.key for run in runs}) <= len(distinct)
    assert all(len(run.key) < 200 for run in runs)


def test_ratios_are_paired_by_seed_and_judged_by_their_spread(results: dict[str, Any]) -> None:
    base, nearest, *_ = lines_of(results, GROUPS["refinement"], "resnet20")
    assert by_seed(results, "resnet20", BASELINE) == base.found
    spread = spread_of(results)
    assert spread > 0.1
    assert verdict(base, spread) == ""
    assert verdict(nearest, spread) == "worse"
    assert verdict(nearest, 10.0) == "not resolved"
    assert math.exp(nearest.logs[0]) == pytest.approx(2)


def test_the_document_has_every_group_and_its_figure(results: dict[str, Any], tmp_path: Path) -> None:
    publish(results, tmp_path)
    text = (tmp_path / "ablations.md").read_text()
    for name, group in GROUPS.items():
        assert group.question in text
        assert (tmp_path / "figures" / f"ablation-{name}.png").stat().st_size > 5000
    assert "| start from nearest rounding | 30.00 |" in text


def test_what_an_earlier_run_stored_counts_as_done_and_own_results_stay(tmp_path: Path) -> None:
    first, second = list({run.key: run for _, run in runs_of(["counter"])}.values())[:2]
    known, folder = tmp_path / "ablations.json", tmp_path / "folder"
    known.write_text(json.dumps([result(first, 0.5), result(second, 0.25), {"key": "of no run any more"}]))
    folder.mkdir()
    (folder / f"{first.key}.json").write_text(json.dumps(result(first, 1.0)))
    put_known(known, folder)
    assert {key: each["kl"] for key, each in gather(folder).items()} == {first.key: 1.0, second.key: 0.25}
