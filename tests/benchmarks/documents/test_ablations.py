"""The document of the ablations from results that are made up."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.documents.ablations import TABLES, by_seed, lines_of, pictures, spread_of, verdict
from benchmarks.harness.row import Row
from benchmarks.suites.ablation_cases import BASELINE, GROUPS, trials_of
from benchmarks.suites.ablations import MEASURES, Results, results_of
from noworse.tune.options import Options


@pytest.fixture
def rows() -> list[Row]:
    """Every trial is about 0.01, wobbling with its seed, but those without the entropy term at twice that."""
    found = {}
    for trial in (trial for group in GROUPS for trial in trials_of(group).values()):
        wobble = 0.1 * trial.seed * (1 if trial.case is BASELINE else -1)
        kl = 0.01 * math.exp(wobble) * (1 if trial.case.options.get("entropy_term", True) else 2)
        known = {
            "ratio": 30.0,
            "difference": 0.01,
            "lower": 0.0,
            "upper": 0.02,
            "changed": 0.1,
            "seconds": 1.0,
            "kl": kl,
        }
        found |= {
            f"{trial.key}: {end}": Row(f"{trial.key}: {end}", known[m], unit) for m, (end, unit) in MEASURES.items()
        }
    return list(found.values())


@pytest.fixture
def results(rows: list[Row]) -> Results:
    return results_of(rows)


def test_all_settings_are_options_and_all_keys_differ() -> None:
    trials = [trial for group in GROUPS for trial in trials_of(group).values()]
    for trial in trials:
        Options(**{k: tuple(v) if isinstance(v, list) else v for k, v in trial.options.items()})
    distinct = {(t.net, str(t.options), t.case.samples, t.case.labelled, t.case.prune) for t in trials}
    assert len({trial.key for trial in trials}) <= len(distinct)
    assert all(len(trial.key) < 200 for trial in trials)


def test_ratios_are_paired_by_seed_and_judged_by_their_spread(results: Results) -> None:
    base, without, *_ = lines_of(results, GROUPS["entropy"], "resnet20")
    assert by_seed(results, "resnet20", BASELINE) == base.found
    spread = spread_of(results)
    assert spread > 0.1
    assert verdict(base, spread) == ""
    assert verdict(without, spread) == "worse"
    assert verdict(without, 10.0) == "not resolved"
    assert math.exp(without.logs[0]) == pytest.approx(2)


def test_the_document_has_every_group_and_its_figure(rows: list[Row], tmp_path: Path) -> None:
    pictures(rows, tmp_path)
    text = TABLES["ablations: groups"](rows)
    for name, group in GROUPS.items():
        assert group.question in text
        assert f"(figures/ablation-{name}.png)" in text
        assert (tmp_path / f"ablation-{name}.png").stat().st_size > 5000
    assert "| no entropy term | 30.00 | 0.0182 | 1.64" in text
    assert "| ResNet-20 | 30 | 100 |" in TABLES["ablations: nets"](rows)
    assert not any(made([]) for made in TABLES.values())
