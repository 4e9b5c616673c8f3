"""Which rounding a start takes: by its loss, by the bits that it gets down to, or as asked for."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from noworse.errors import BadInput
from noworse.propose.grids.compensated import Layer
from noworse.propose.grids.layers import Layers
from noworse.propose.grids.untuned import Untuned
from noworse.tune.options import Options
from noworse.tune.start import AHEAD, COMPENSATED, NEAREST, Ground, refine, start, turn
from noworse.tune.tuner import Tuner
from tests.propose.grids.test_compensated import correlated
from tests.tune.test_tuner import SIDE, begin, make


def started(rounding: str, losses: list[float], straight: bool = True, bits: float = 2.0) -> tuple[Tuner, float]:
    """A tuner at its start, and the bits that its codes were to take."""
    tuner = make(Options(rounding=rounding))
    grids = tuner.grids
    grids.straight = straight
    size = lambda: SIDE + math.ceil(float(grids.meter(tuner.values)().sum()) / 8)  # noqa: E731
    tuner.hooks = replace(tuner.hooks, file_size=size)
    held = {"0.weight": Layer((64, 20), correlated(20, 3)[None]), "2.weight": Layer((4, 64), correlated(64, 4)[None])}
    sensitivity = {spec.name: 1.0 for spec in grids.specs}
    ground = Ground(Untuned(grids), sensitivity, Layers(held=held), lambda: losses.pop(0), lambda: SIDE)
    wanted = bits * grids.count
    start(tuner, ground, wanted + 8 * SIDE)
    assert not losses
    return tuner, wanted


def pace(tuner: Tuner) -> list[float]:
    names = ("lr_weights", "lr_steps", "lr_zones")
    peaks = {group["option"]: group["peak"] for group in tuner.optimiser.param_groups}
    return [peaks[name] / getattr(Options(), name) for name in names]


@pytest.mark.parametrize(
    ("rounding", "losses", "straight", "compensated"),
    [
        ("auto", [1.0, 0.9], True, True),
        ("auto", [0.9, 1.0], True, False),
        ("compensated", [], True, True),
        ("nearest", [], True, False),
        ("auto", [], False, False),
    ],
    ids=["loses less", "loses more", "asked for", "not asked for", "no straight lines"],
)
def test_the_rounding_of_less_loss_or_the_one_asked_for(
    rounding: str, losses: list[float], straight: bool, compensated: bool
) -> None:
    tuner, wanted = started(rounding, losses, straight)
    assert pace(tuner) == pytest.approx(list(COMPENSATED if compensated else NEAREST))
    found = float(tuner.grids.bits.sum())
    assert found == pytest.approx(wanted if compensated else AHEAD * wanted, rel=0.03)
    assert torch.allclose(tuner.grids.weights(0), make(Options()).grids.weights(0)) != compensated


def test_what_a_further_start_needs_can_be_freed() -> None:
    untuned, layers = Untuned(make(Options()).grids), Layers(held={"a": Layer((2, 2), correlated(2, 1)[None])})
    ground = Ground(untuned, {}, layers, lambda: 0.0, lambda: 0)
    ground.forget(untuned=False)
    assert ground.untuned is untuned
    assert not ground.layers
    ground.forget(untuned=True)
    assert ground.untuned is None


def rounded(losses: list[float], correct: bool = True) -> tuple[Tuner, Ground]:
    """A tuner at its start, and a ground on which it loses what is listed, one after the other."""
    tuner = make(Options(bias_correction=correct))
    ground = Ground(Untuned(tuner.grids), {}, Layers(), lambda: losses.pop(0), lambda: 100)
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
