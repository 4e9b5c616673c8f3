"""After tuning: biases take back what rounding moved the means of outputs by, where that lowers the loss."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from noworse.propose.grids.means import correct_means, samples_of
from noworse.tune.start import Ground
from noworse.tune.tuner import Tuner


def refine(tuner: Tuner, ground: Ground, low: int, high: int) -> None:
    """Correct biases, if options ask for that; kept if it loses less on calib and the file has low to high bytes."""
    if not tuner.options.bias_correction:
        return
    grids = tuner.grids
    before, loss = grids.state(), ground.loss()
    batch = tuner.sampler.first(samples_of(tuner.sampler.batches[0]))
    run = functools.partial(tuner.objective.forward, tuner.student, batch)
    correct_means(tuner.student, grids, tuner.values, ground.untuned, run)
    better = ground.loss() < loss and low <= tuner.hooks.file_size() <= high
    if not tuner.hooks.world.agree(better):
        grids.restore(before)
    grids.quantise(tuner.values)


def turn(tuner: Tuner, ground: Ground, knob: Mapping[str, float], low: int, high: int) -> bool:
    """Refine with a knob turned (``GridSet.turn``), if options ask for that; return False where all is as it was."""
    if not tuner.options.bias_correction:
        return False
    before = tuner.grids.state()
    tuner.grids.turn(**knob)
    fits = low <= tuner.hooks.file_size() <= high
    if fits:
        refine(tuner, ground, low, high)
    else:
        tuner.grids.restore(before)
    return fits
