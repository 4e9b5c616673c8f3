"""Which rounding a start takes: by its loss, by the bits that it gets down to, or as asked for."""

from __future__ import annotations

import pytest
import torch

from noworse.propose.grids.compensated import Layer
from noworse.tune.options import Options
from noworse.tune.start import AHEAD, COMPENSATED, NEAREST, Ground, start
from noworse.tune.tuner import Tuner
from tests.propose.grids.test_compensated import correlated
from tests.tune.test_tuner import SIDE, make


def started(rounding: str, losses: list[float], straight: bool = True, bits: float = 2.0) -> tuple[Tuner, float]:
    """A tuner at its start, and the bits that its codes were to take."""
    tuner = make(Options(rounding=rounding))
    grids = tuner.grids
    grids.straight = straight
    layers = {"0.weight": Layer((64, 20), correlated(20, 3)[None]), "2.weight": Layer((4, 64), correlated(64, 4)[None])}
    sensitivity = {spec.name: 1.0 for spec in grids.specs}
    ground = Ground(grids.state(), sensitivity, layers, lambda: losses.pop(0), lambda: SIDE)
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
    ground = Ground((torch.zeros(3),), {}, {"a": Layer((2, 2), correlated(2, 1)[None])}, lambda: 0.0, lambda: 0)
    ground.forget(untuned=False)
    assert len(ground.untuned) == 1
    assert not ground.layers
    ground.forget(untuned=True)
    assert ground.untuned == ()
