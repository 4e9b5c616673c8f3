"""What a grid may have beyond its step and its edge: a curve, and a step for every row (output channel)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noworse.errors import BadInput
from noworse.representation.curves import CURVES, Floats
from noworse.representation.minifloat import MAX_STEP, unpack_step

CHANNEL_UNITS = 16  # of a row's number in those of the step: sixteenths of an octave


@dataclass(frozen=True)
class Form:
    """A ``curve`` with its packed ``shape`` parameters, and ``channels``: one signed byte per row, or empty.

    Row i has the step whose minifloat has the number of the grid's step plus 16 times byte i.
    """

    curve: str = "linear"
    shape: tuple[int, ...] = ()
    channels: bytes = b""

    def __post_init__(self) -> None:
        if self.curve not in CURVES:
            raise BadInput(f"a curve {self.curve!r}, expected one of {', '.join(CURVES)}")
        expected = CURVES[self.curve].parameters
        if len(self.shape) != expected or not all(0 < x <= MAX_STEP for x in self.shape):
            raise BadInput(
                f"parameters {self.shape} of a {self.curve} curve, expected {expected} of 1 to {MAX_STEP} each"
            )

    def points(self, magnitudes: Floats) -> Floats:
        """The curve's f(k) for magnitudes k >= 0 (integers as float64)."""
        return CURVES[self.curve].points(magnitudes, [unpack_step(x) for x in self.shape])

    def offsets(self) -> NDArray[np.int64]:
        """What each row adds to the number of the step, (rows,)."""
        return np.frombuffer(self.channels, np.int8).astype(np.int64) * CHANNEL_UNITS


PLAIN = Form()


def check_channels(form: Form, step: int, shape: tuple[int, ...]) -> None:
    """BadInput where the rows of a grid are not as many as its channels, or a row has no step."""
    if not form.channels:
        return
    if not shape or shape[0] != len(form.channels):
        raise BadInput(f"{len(form.channels)} channels of a grid of shape {shape}, expected one per row")
    steps = step + form.offsets()
    if steps.min() < 1 or steps.max() > MAX_STEP:
        raise BadInput(f"packed steps of rows from {steps.min()} to {steps.max()}, expected 1 to {MAX_STEP}")
