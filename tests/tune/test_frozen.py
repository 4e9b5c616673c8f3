from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from noworse.errors import BadInput
from noworse.propose.grids.grid import GridSet
from noworse.tune.frozen import FrozenCodes, tune_frozen
from noworse.tune.options import Options
from tests.tiny import mlp, run, task
from tests.tune.test_tuner import begin, make


def codes_of(grids: GridSet) -> dict[str, Any]:
    return {name: item.codes.copy() for name, item in grids.representations().items() if len(item.shape) > 1}


def test_codes_of_matrices_stay_while_steps_zones_and_biases_learn() -> None:
    tuner = make(Options())
    begin(tuner, 3000.0)
    grids = tuner.grids
    grids.log_zone += 0.7  # wider zero bins than those of a uniform grid
    grids.quantise(tuner.values)
    before, steps, zones = codes_of(grids), grids.steps(), grids.zones()
    biases = grids.weights(1).clone()
    first = tuner.learn()
    tune_frozen(tuner, 60)
    after = codes_of(grids)
    for name, codes in before.items():
        np.testing.assert_array_equal(codes, after[name])
    matrices = torch.tensor([len(spec.shape) > 1 for spec in grids.specs])
    assert bool((grids.steps() != steps)[matrices].all())
    assert bool((grids.zones() != zones)[matrices].any())
    torch.testing.assert_close(grids.steps()[~matrices], steps[~matrices])
    assert not torch.equal(grids.weights(1), biases)
    losses = [tuner.learn() for _ in range(9)]
    assert sum(losses) / 9 < first


def test_gradients_of_what_codes_stand_for() -> None:
    """Against finite differences of a linear function of ŵ; step and zone are not rounded there."""
    tuner = make(Options())
    begin(tuner, 3000.0)
    grids = tuner.grids
    frozen = FrozenCodes.of(grids, tuner.values)
    frozen.hold()
    grids.quantise(tuner.values)
    slope = torch.randn(grids.count, generator=torch.Generator().manual_seed(3))
    frozen.gradients(slope.clone())

    def linear(k: int, log_step: Tensor, log_zone: Tensor) -> Tensor:
        q = frozen.codes[k].double()
        r = log_zone.exp() + 0.4
        w = q.sign() * (q.abs() + r - 0.5) * log_step.exp()
        return (w * slope[grids.offsets[k] : grids.offsets[k + 1]]).sum()

    assert grids.log_step.grad is not None
    assert grids.log_zone.grad is not None
    for k in frozen.codes:
        point = grids.steps()[k].double().log(), (grids.zones()[k].double() - 0.4).log()
        leaves = [p.clone().requires_grad_(True) for p in point]
        by_step, by_zone = torch.autograd.grad(linear(k, *leaves), leaves)
        assert float(grids.log_step.grad[k]) == pytest.approx(float(by_step), rel=1e-3)
        assert float(grids.log_zone.grad[k]) == pytest.approx(float(by_zone), rel=0.05)


def test_rounding_alone_loses_less_after_it_at_the_same_size(tmp_path: Path) -> None:
    job = task(mlp(256))
    plain = run(job, tmp_path / "a.nwt", target=12, iterations=0)
    tuned = run(job, tmp_path / "b.nwt", target=12, iterations=0, bias_correction=True, frozen=80)
    assert plain.verdict.mean_kl is not None
    assert tuned.verdict.mean_kl is not None
    assert tuned.verdict.mean_kl < plain.verdict.mean_kl
    assert tuned.size <= tuned.original_size / 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frozen": -1}, "frozen must not be negative"),
        ({"frozen": 5, "transform": "log"}, "frozen needs transform deadzone or uniform"),
        ({"bias_correction": True, "per_channel": True}, "bias_correction needs transform"),
    ],
)
def test_options_that_cannot_be_had(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Options(**options)
