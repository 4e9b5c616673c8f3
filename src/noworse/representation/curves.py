"""Curves that bend a grid: f(k) says where the reconstruction point of magnitude k lies, in steps, with f(0) = 0.

    linear        f(k) = k
    log           f(k) = ((1 + h)^k − 1)/h             bins widen outwards: the inverse is a logarithm
    exp           f(k) = ln(1 + h k)/h                 bins narrow outwards: the inverse is an exponential
    multiscale    piecewise linear: slopes 1, m₂ .. m₅ on segments that are h steps wide, the last one without an end

Decoding must give the same bits everywhere, so points are computed by additions, multiplications and divisions of
float64 alone, each rounded as IEEE 754 says, in the order written here and in docs/format.md; no library's exp or log.
A new curve is one more class here, decorated with its number in the file.

Source: the transforms of Shi et al., L² compression (ICCV 2023), rewritten so that all have step 1 at zero.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
LN2 = 0.6931471805599453
TERMS = 13  # of the series of the inverse hyperbolic tangent, beyond which float64 has no digits
SEGMENTS = 5


class Curve(ABC):
    """One family of curves: its ``name``, its ``code`` in a file, and how many ``parameters`` (positive) it has."""

    name: ClassVar[str]
    code: ClassVar[int]
    parameters: ClassVar[int]

    @staticmethod
    @abstractmethod
    def points(k: Floats, shape: Sequence[float]) -> Floats:
        """f(k) for magnitudes k >= 0 (integers as float64, any shape), in steps; ``shape`` are the parameters."""


CURVES: dict[str, type[Curve]] = {}
BY_NUMBER: dict[int, type[Curve]] = {}


def register(name: str, code: int, parameters: int) -> Callable[[type[Curve]], type[Curve]]:
    """Give a curve its name, its number in files, and the number of its parameters."""

    def named(curve: type[Curve]) -> type[Curve]:
        curve.name, curve.code, curve.parameters = name, code, parameters
        CURVES[name] = BY_NUMBER[code] = curve
        return curve

    return named


@register("linear", 0, 0)
class Linear(Curve):
    """Equally wide bins."""

    @staticmethod
    def points(k: Floats, shape: Sequence[float]) -> Floats:
        """f(k) = k."""
        return k


@register("log", 1, 1)
class Log(Curve):
    """Bins whose width grows by the factor 1 + h from each to the next."""

    @staticmethod
    def points(k: Floats, shape: Sequence[float]) -> Floats:
        """f(k) = ((1 + h)^k − 1)/h, the power by squaring from the lowest bit of k on."""
        (h,) = shape
        power, factor, left = np.ones_like(k), 1.0 + h, k.astype(np.int64)
        with np.errstate(over="ignore"):
            while left.any():
                power = np.where(left & 1, power * factor, power)
                factor, left = np.multiply(factor, factor), left >> 1
            return (power - 1.0) / h


@register("exp", 2, 1)
class Exp(Curve):
    """Bins that get narrower outwards."""

    @staticmethod
    def points(k: Floats, shape: Sequence[float]) -> Floats:
        """f(k) = ln(1 + h k)/h."""
        (h,) = shape
        return logarithm(1.0 + h * k) / h


@register("multiscale", 3, SEGMENTS)
class Multiscale(Curve):
    """Five segments of one width, each with a step of its own."""

    @staticmethod
    def points(k: Floats, shape: Sequence[float]) -> Floats:
        """Segment i from code b_i on: f(k) = (k − b_i)·m_i + (i − 1)·h with b_1 = 0, b_i+1 = b_i + h/m_i."""
        width, *slopes = shape
        slopes, begin, out = [1.0, *slopes], 0.0, np.zeros_like(k)
        for i, slope in enumerate(slopes):
            out = np.where(k >= begin, (k - begin) * slope + i * width, out)
            begin = begin + width / slope
        return out


def logarithm(x: Floats) -> Floats:
    """ln x for x >= 1, the same bits on every machine: x = m 2^e with 3/4 <= m < 3/2, ln m = 2 artanh((m−1)/(m+1))."""
    m, e = np.frexp(x)
    low = m < 0.75
    m, e = np.where(low, 2.0 * m, m), np.where(low, e - 1, e)
    z = (m - 1.0) / (m + 1.0)
    y, total = z * z, np.full_like(z, 1.0 / (2 * TERMS - 1))
    for n in range(2 * TERMS - 3, 0, -2):
        total = total * y + 1.0 / n
    return 2.0 * z * total + e * LN2
