"""Bias correction after rounding: kept where it loses less, undone where it does not or where the size is missed."""

from __future__ import annotations

import math

import pytest
import torch

from noworse.errors import BadInput
from noworse.tune.options import Options
from noworse.tune.refine import refine, turn
from noworse.tune.start import Ground
from noworse.tune.tuner import Tuner
from tests.tune.test_tuner import begin, make


def rounded(losses: list[float], correct: bool = True) -> tuple[Tuner, Ground]:
    """A tuner at its start, and a ground on which it loses what is listed, one after the other."""
    tuner = make(Options(bias_correction=correct))
    ground = Ground(tuner.grids.state(), {}, {}, lambda: losses.pop(0), lambda: 100)
    begin(tuner, 2000.0)
    return tuner, ground


@pytest.mark.parametrize(
    ("losses", "low", "high", "correct", "moves"),
    [
        ([1.0, 0.9], 0, 10**9, True, True),
        ([0.9, 1.0], 0, 10**9, True, False),
        ([1.0, 0.9], 0, 1, True, False),
        ([], 0, 10**9, False, False),
    ],
    ids=["loses less", "loses more", "too large", "not asked for"],
)
def test_biases_move_where_that_pays(losses: list[float], low: int, high: int, correct: bool, moves: bool) -> None:
    tuner, ground = rounded(losses, correct)
    before = tuner.grids.weights(1).clone()
    refine(tuner, ground, low, high)
    assert torch.equal(tuner.grids.weights(1), before) != moves
    expected = torch.empty_like(tuner.values)
    tuner.grids.quantise(expected)
    assert torch.equal(tuner.values, expected)


def test_a_knob_stays_turned_only_within_the_bounds() -> None:
    tuner, ground = rounded([1.0, 2.0])
    steps = tuner.grids.steps()
    assert not turn(tuner, ground, {"log_scale": math.log(2)}, 10**8, 10**9)
    assert torch.equal(tuner.grids.steps(), steps)
    assert turn(tuner, ground, {"log_scale": math.log(2)}, 0, 10**9)
    torch.testing.assert_close(tuner.grids.steps(), 2 * steps)


def test_curves_cannot_have_it() -> None:
    with pytest.raises(BadInput, match="option bias_correction is True with transform 'log': expected one of straight"):
        Options(bias_correction=True, plugins={"transform": "log"})
