from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from noworse.errors import BadInput
from noworse.format import File
from noworse.jobs.compress import compress_task
from noworse.propose.grids.compensated import start_at
from noworse.propose.grids.grid import GridSet, GridSpec
from noworse.tune.control import BitLimits, RateController, budget_at
from noworse.tune.options import Options
from tests.tiny import mlp, task


def test_controller_brings_a_simulated_file_to_its_budget() -> None:
    """Bits that fall with λ as those of a net do (a slow pull towards a point that depends on ln λ)."""
    controller, bits, budget = RateController(1e-3), 150.0, 100.0
    for _ in range(600):
        wanted = 100.0 * math.exp(-0.2 * math.log(controller.update(bits, budget) / 0.05))
        bits += 0.02 * (min(max(wanted, 20.0), 400.0) - bits)
    assert bits == pytest.approx(budget, rel=0.01)


def test_budget_path() -> None:
    assert budget_at(0, 200, 100, 0.2) == 200
    assert budget_at(0.1, 400, 100, 0.2) == pytest.approx(200)
    assert budget_at(0.2, 200, 100, 0.2) == budget_at(0.9, 200, 100, 0.2) == 100


def entropies(path: Path) -> dict[str, float]:
    """Bits per weight of ideal order-0 codes of what a file holds, from the decoded values alone."""
    found = {}
    with File(path) as file:
        for name, values in file.stored():
            if not isinstance(values, str):
                counts = np.unique(values, return_counts=True)[1]
                found[name] = float(-(counts / counts.sum() * np.log2(counts / counts.sum())).sum())
    return found


@pytest.mark.parametrize("rounding", ["auto", "nearest"])
def test_files_keep_to_floors_and_caps(tmp_path: Path, rounding: str) -> None:
    free, held = tmp_path / "free.nwt", tmp_path / "held.nwt"
    options = Options(iterations=80, rounding=rounding)
    limits = {"*": (0.0, 9.0), "0.weight": (0.0, 1.2), "2.weight": (4.5, 5.0)}
    job = task(mlp())
    compress_task(job, free, target=15, tolerance=1.0, options=options, progress=None)
    compress_task(
        job,
        held,
        target=15,
        tolerance=1.0,
        options=Options(iterations=80, rounding=rounding, layer_bits=limits),
        progress=None,
    )
    before, after = entropies(free), entropies(held)
    assert not 4.5 <= before["2.weight"] <= 5.0
    assert after["0.weight"] <= 1.25
    assert 4.45 <= after["2.weight"] <= 5.05


def grids() -> GridSet:
    torch.manual_seed(0)
    weights = {"a": torch.randn(50, 80), "b": torch.randn(40, 50), "c": torch.randn(12)}
    return GridSet([GridSpec(name, tuple(w.shape), "float32") for name, w in weights.items()], weights, 0.6)


def test_steps_at_the_start_are_within_the_limits() -> None:
    found = grids()
    scratch = torch.empty(found.count)
    limits = BitLimits({"a": (3.0, 3.5), "b": (0.0, 0.5), "c": (9.0, 9.0)}, found)
    limits.bound_steps(found, scratch)
    for bits in (0.2, 2.0, 6.0):
        start_at(found, {"a": 1.0, "b": 1.0, "c": 1.0}, bits * found.count, found.meter(scratch))
        found.quantise(scratch)
        rates = (found.bits / limits.sizes).tolist()
        assert 2.95 <= rates[0] <= 3.55
        assert rates[1] <= 0.55
        assert rates[2] >= 0.85 * np.log2(12) - 0.3  # of 12 codes no more can be asked for


def test_holding_closes_in_on_the_limit_from_any_side() -> None:
    found = grids()
    scratch = torch.empty(found.count)
    limits = BitLimits({"a": (2.0, 2.0)}, found)
    for start in (-6.0, 1.0):
        found.log_step.fill_(start)
        for _ in range(40):
            found.quantise(scratch)
            limits.hold(found)
        assert float(found.bits[0] / limits.sizes[0]) == pytest.approx(2.0, abs=0.02)
        assert float(found.log_step[1]) == start  # others are not touched


def test_a_target_below_the_floors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"means \d+ bytes: \d+ are needed .* but the floors of layer_bits \(1120 bytes"):
        compress_task(
            task(mlp()),
            tmp_path / "x.nwt",
            target=8,
            tolerance=None,
            options=Options(layer_bits={"0.weight": (7.0, 8.0)}),
            progress=None,
        )
