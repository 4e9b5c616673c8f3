"""What a grid may have beyond its step and its edge: a curve, and a step for every row (output channel)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noworse.errors import BadInput
from noworse.representation.columns import Cursor
from noworse.representation.curves import BY_NUMBER, CURVES, Floats
from noworse.representation.minifloat import MAX_STEP, unpack_step

FORMED = 0  # in place of the edge of a grid with a form ..
CHANNELS = 128  # .. whose curve has this bit where every row has a step of its own
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


def pack_forms(edges: Sequence[int], forms: Sequence[Form]) -> bytes:
    """Edges; zero where a grid has a form, and then these grids' edges, curves, parameters and channels."""
    formed = [(edge, form) for edge, form in zip(edges, forms, strict=True) if form != PLAIN]
    return (
        bytes(edge if form == PLAIN else FORMED for edge, form in zip(edges, forms, strict=True))
        + bytes(edge for edge, _ in formed)
        + bytes(CURVES[form.curve].code + (CHANNELS if form.channels else 0) for _, form in formed)
        + b"".join(x.to_bytes(2, "little") for _, form in formed for x in form.shape)
        + b"".join(form.channels for _, form in formed)
    )


def unpack_forms(cursor: Cursor, shapes: Sequence[tuple[int, ...]]) -> tuple[list[int], list[Form]]:
    """Edges and forms of grids with these shapes; BadInput for forms that mean nothing."""
    edges = list(cursor.take(len(shapes), "edges"))
    formed = [i for i, edge in enumerate(edges) if edge == FORMED]
    forms = [PLAIN] * len(edges)
    for i, edge in zip(formed, cursor.take(len(formed), "edges of grids with a form"), strict=True):
        edges[i] = edge
    codes = cursor.take(len(formed), "curves")
    for code in codes:
        if code % CHANNELS not in BY_NUMBER:
            raise BadInput(f"a curve of number {code % CHANNELS}, expected one up to {max(BY_NUMBER)}")
    curves = [BY_NUMBER[code % CHANNELS] for code in codes]
    parameters = [cursor.take(2 * curve.parameters, "parameters of curves") for curve in curves]
    for i, code, curve, words in zip(formed, codes, curves, parameters, strict=True):
        rows = shapes[i][0] if code >= CHANNELS and shapes[i] else 0
        forms[i] = Form(curve.name, tuple(np.frombuffer(words, "<u2").tolist()), cursor.take(rows, "channels"))
        if (code >= CHANNELS) != bool(rows) or forms[i] == PLAIN:
            raise BadInput(f"a grid of shape {shapes[i]} has no use for its form")
    return edges, forms
