"""Before and after tuning: roundings to start from, and biases that take back what rounding moved outputs by.

Of compensated and nearest rounding, and of biases with and without a correction, those are kept that lose less on
calibration data.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from noworse.propose.grids.compensated import Meter, start_at
from noworse.propose.grids.layers import Layers, start_compensated
from noworse.propose.grids.means import correct_means, samples_of
from noworse.propose.grids.untuned import Untuned
from noworse.tune.progress import stage

if TYPE_CHECKING:
    from noworse.tune.tuner import Tuner


COMPENSATED, NEAREST = (1.0, 1.0, 1.0), (3.5, 30.0, 20.0)  # learning rates after a start, times those of the options
FITS = 1.05  # of the wanted bits: what compensated rounding may take
AHEAD = 1.3  # bits at the start from nearest rounding, as a multiple of the wanted


@dataclass
class Ground:
    """What was surveyed of a student's grids before any tuning, and how a rounding of them is judged."""

    untuned: Untuned | None  # the grids as they were, until that is forgotten
    sensitivity: Mapping[str, float]
    layers: Layers  # moments of layers' inputs
    loss: Callable[[], float]  # mean distillation loss on calibration data of the weights as rounded now
    floor: Callable[[], int]  # bytes of a file without codes

    @property
    def before(self) -> Untuned:
        """The grids as they were."""
        assert self.untuned is not None, "nothing starts or is refined once it is forgotten"
        return self.untuned

    def forget(self, untuned: bool) -> None:
        """Free the memory that a further start would need, that of the ``untuned`` weights only where asked for."""
        self.layers = Layers()
        if untuned:
            self.untuned = None


def start(tuner: Tuner, ground: Ground, budget: float) -> None:
    """Round the untuned weights to codes for a file of about ``budget`` bits, and reset the tuner there."""
    grids = tuner.grids
    ground.before.restore()
    floor = 8 * ground.floor()
    wanted = max(tuner.options.start * budget - floor, 0.5 * budget)
    rounding, meter = tuner.options.rounding, grids.meter(tuner.values)
    if rounding == "nearest" or not grids.straight or not _start_compensated(tuner, ground, wanted, floor, meter):
        ground.before.restore()
        tuner.reset(start_at(grids, ground.sensitivity, AHEAD * wanted, meter), NEAREST)


def _start_compensated(tuner: Tuner, ground: Ground, wanted: float, floor: float, meter: Meter) -> bool:
    """Start from compensated rounding; False where "auto" prefers nearest rounding, as it loses less or is cheaper."""
    auto, nearest, hooks = tuner.options.rounding == "auto", math.inf, tuner.hooks
    if auto:
        start_at(tuner.grids, ground.sensitivity, wanted, meter)
        nearest = ground.loss()

    def cost() -> float:
        return 8 * hooks.file_size() - floor

    def tell(done: int, of: int) -> None:
        hooks.progress(stage("start", done, of))

    multiplier, found = start_compensated(ground.before, ground.layers, ground.sensitivity, wanted, meter, cost, tell)
    taken = not (auto and (found > FITS * wanted or nearest < ground.loss()))
    if taken:
        tuner.reset(multiplier, COMPENSATED)
    return taken


def refine(tuner: Tuner, ground: Ground, low: int, high: int) -> None:
    """Correct biases, if options ask for that; kept if it loses less on calib and the file has low to high bytes."""
    if not tuner.options.bias_correction:
        return
    grids = tuner.grids
    vectors = [place for k, place in grids.places.items() if len(grids.specs[k].shape) == 1]
    before, loss = [grids.latent[place].clone() for place in vectors], ground.loss()
    batch = tuner.sampler.first(samples_of(tuner.sampler.batches[0]))
    run = functools.partial(tuner.objective.forward, tuner.student, batch)
    correct_means(tuner.student, grids, tuner.values, ground.before, run)
    better = ground.loss() < loss and low <= tuner.hooks.file_size() <= high
    if not tuner.hooks.world.agree(better):
        for place, latent in zip(vectors, before, strict=True):
            grids.latent[place] = latent
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
