"""What a grid may have beyond its step and its edge: a curve that bends it, and a step for every row.

A curve f(k) says where the reconstruction point of magnitude k lies, in steps, with f(0) = 0 (docs/format.md, section
3): the transforms of Shi et al., L² compression (ICCV 2023), rewritten so that all have step 1 at zero. Decoding must
give the same bits everywhere, so points are computed by additions, multiplications and divisions of float64 alone, each
rounded as IEEE 754 says, in the order written here; no library's exp or log.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from noworse.errors import BadInput
from noworse.representation.columns import MAX_STEP, Cursor, unpack_step

Floats = NDArray[np.float64]
LN2 = 0.6931471805599453
TERMS = 13  # of the series of the inverse hyperbolic tangent, beyond which float64 has no digits
SEGMENTS = 5
FORMED = 0  # in place of the edge of a grid with a form ..
CHANNELS = 128  # .. whose curve has this bit where every row has a step of its own
CHANNEL_UNITS = 16  # of a row's number in those of the step: sixteenths of an octave


class Curve(NamedTuple):
    """A family of curves: its number in a file, how many (positive) parameters it has, and f(k) for magnitudes k >= 0.

    ``points`` takes integers as float64, of any shape, and the parameters; it returns steps.
    """

    code: int
    parameters: int
    points: Callable[[Floats, Sequence[float]], Floats]


def _log(k: Floats, shape: Sequence[float]) -> Floats:
    """f(k) = ((1 + h)^k − 1)/h, the power by squaring from the lowest bit of k on."""
    (h,) = shape
    power, factor, left = np.ones_like(k), 1.0 + h, k.astype(np.int64)
    with np.errstate(over="ignore"):
        while left.any():
            power = np.where(left & 1, power * factor, power)
            factor, left = np.multiply(factor, factor), left >> 1
        return (power - 1.0) / h


def _exp(k: Floats, shape: Sequence[float]) -> Floats:
    """f(k) = ln(1 + h k)/h."""
    (h,) = shape
    return logarithm(1.0 + h * k) / h


def _multiscale(k: Floats, shape: Sequence[float]) -> Floats:
    """Slopes m_i on segments h steps wide: f(k) = (k − b_i)·m_i + (i − 1)·h, b_1 = 0, b_i+1 = b_i + h/m_i."""
    width, *slopes = shape
    slopes, begin, out = [1.0, *slopes], 0.0, np.zeros_like(k)
    for i, slope in enumerate(slopes):
        out = np.where(k >= begin, (k - begin) * slope + i * width, out)
        begin = begin + width / slope
    return out


CURVES = {
    "linear": Curve(0, 0, lambda k, shape: k),
    "log": Curve(1, 1, _log),
    "exp": Curve(2, 1, _exp),
    "multiscale": Curve(3, SEGMENTS, _multiscale),
}
BY_NUMBER = {curve.code: name for name, curve in CURVES.items()}


def logarithm(x: Floats) -> Floats:
    """Return ln x for x >= 1, the same bits everywhere: x = m 2^e, 3/4 <= m < 3/2, ln m = 2 artanh((m−1)/(m+1))."""
    m, e = np.frexp(x)
    low = m < 0.75
    m, e = np.where(low, 2.0 * m, m), np.where(low, e - 1, e)
    z = (m - 1.0) / (m + 1.0)
    y, total = z * z, np.full_like(z, 1.0 / (2 * TERMS - 1))
    for n in range(2 * TERMS - 3, 0, -2):
        total = total * y + 1.0 / n
    return 2.0 * z * total + e * LN2


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
        """Return the curve's f(k) for magnitudes k >= 0 (integers as float64)."""
        return CURVES[self.curve].points(magnitudes, [unpack_step(x) for x in self.shape])

    def offsets(self) -> NDArray[np.int64]:
        """Return what each row adds to the step's packed number, (rows,)."""
        return np.frombuffer(self.channels, np.int8).astype(np.int64) * CHANNEL_UNITS


PLAIN = Form()


def check_channels(form: Form, step: int, shape: tuple[int, ...]) -> None:
    """Raise BadInput where the rows of a grid are not as many as its channels, or a row has no step."""
    if not form.channels:
        return
    if not shape or shape[0] != len(form.channels):
        raise BadInput(f"{len(form.channels)} channels of a grid of shape {shape}, expected one per row")
    steps = step + form.offsets()
    if steps.min() < 1 or steps.max() > MAX_STEP:
        raise BadInput(f"packed steps of rows from {steps.min()} to {steps.max()}, expected 1 to {MAX_STEP}")


def pack_forms(edges: Sequence[int], forms: Sequence[Form]) -> bytes:
    """Return edges, zero where a grid has a form, and then these grids' edges, curves, parameters and channels."""
    formed = [(edge, form) for edge, form in zip(edges, forms, strict=True) if form != PLAIN]
    return (
        bytes(edge if form == PLAIN else FORMED for edge, form in zip(edges, forms, strict=True))
        + bytes(edge for edge, _ in formed)
        + bytes(CURVES[form.curve].code + (CHANNELS if form.channels else 0) for _, form in formed)
        + b"".join(x.to_bytes(2, "little") for _, form in formed for x in form.shape)
        + b"".join(form.channels for _, form in formed)
    )


def unpack_forms(cursor: Cursor, shapes: Sequence[tuple[int, ...]]) -> tuple[list[int], list[Form]]:
    """Return edges and forms of grids with these shapes; BadInput for forms that mean nothing."""
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
    parameters = [cursor.take(2 * CURVES[curve].parameters, "parameters of curves") for curve in curves]
    for i, code, curve, words in zip(formed, codes, curves, parameters, strict=True):
        rows = shapes[i][0] if code >= CHANNELS and shapes[i] else 0
        forms[i] = Form(curve, tuple(np.frombuffer(words, "<u2").tolist()), cursor.take(rows, "channels"))
        if (code >= CHANNELS) != bool(rows) or forms[i] == PLAIN:
            raise BadInput(f"a grid of shape {shapes[i]} has no use for its form")
    return edges, forms
