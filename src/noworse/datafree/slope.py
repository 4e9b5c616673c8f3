"""Steps for all tensors by one slope: no bit could be moved from one tensor to another and lower the error.

With D the mean squared error of a tensor's elements, R their bits, n their number and P their mean square, the error of
the model is taken to be the sum over tensors of

    a n D      with      a = 1 / (n^BALANCE P)

and every tensor takes the step s and the edge r that minimise a D + lambda R for one lambda (Shoham and Gersho 1988;
for Gaussian tensors this is reverse water-filling). At high rates D = s^2 / 12, so that s is proportional to
sqrt(n^BALANCE P): relative to its tensor's magnitude, and coarser for larger tensors. BALANCE = 0 counts relative
errors per element, 1 per tensor: a layer's output feels the relative error of its weights, however many they are. At 3
bits per weight, development data of all four nets of benchmarks.datafree prefer 1 to 0 and to 1/2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from noworse.datafree.quantise import UNIFORM, codes
from noworse.datafree.survey import Profile
from noworse.format.chunks import entropy
from noworse.representation.grid import EDGE_UNITS

BALANCE = 1.0
STEPS = 2.0 ** np.arange(-9, 4.25, 0.25)  # tried, times the tensor's root mean square
EDGES = (32, 36, 40, 46, 54)  # tried, in 1/64 of a step
FINEST = 2.0**-29  # of the largest magnitude: codes have 30 bits
VECTOR_STEP = 1 / 64  # of the root mean square, at most: vectors are few, and all of a layer depends on them
DIVISOR_STEP = 1 / 16  # of the smallest magnitude but 0, where all have one sign: variances are divided by


@dataclass(frozen=True)
class Choice:
    """How one tensor is written: step and edge of a grid, or as it is where ``step`` is 0; estimated bits and error."""

    step: float
    edge: int
    bits: float  # per element
    error: float  # mean square


class Curve:
    """Bits and error of one tensor at many steps and edges."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.weight = 1 / (profile.size**BALANCE * profile.mean_square)

    @cached_property
    def _table(self) -> NDArray[np.float64]:
        """Rows of step, edge, bits and error; the first is the tensor as it is."""
        rms = math.sqrt(self.profile.mean_square)
        tried = [(0.0, UNIFORM, self.profile.lossless_bits, 0.0)]
        tried += [(s * rms, r, *self.cost(s * rms, r)) for s in STEPS for r in EDGES]
        return np.array(tried)

    def cost(self, step: float, edge: int) -> tuple[float, float]:
        """Return bits and squared error per element, estimated from the sample."""
        sample, r = self.profile.sample, edge / EDGE_UNITS
        k = codes(sample, step, r)
        error = sample - np.sign(k) * (r + np.abs(k) - 0.5) * step
        ends = np.flatnonzero(k[1:] != k[:-1])  # of runs: the sample is sorted, and so are the codes
        counts = np.diff(np.concatenate([[-1], ends, [k.size - 1]]))
        return entropy(counts), float(error @ error) / sample.size

    def at(self, slope: float) -> Choice:
        """Return the best choice for ``slope``, in weighted squared error per bit."""
        if self.profile.is_vector:
            return self.vector(math.sqrt(6 * slope / (math.log(2) * self.weight)))
        table = self._table
        step, edge, bits, error = table[int(np.argmin(self.weight * table[:, 3] + slope * table[:, 2]))]
        return Choice(float(step), int(edge), float(bits), float(error))

    def vector(self, step: float) -> Choice:
        """Return a uniform grid for a vector, finer than asked for where it needs to be."""
        step = min(step, self.coarsest, VECTOR_STEP * math.sqrt(self.profile.mean_square))
        return self.checked(Choice(step, UNIFORM, *self.cost(step, UNIFORM)))

    @property
    def coarsest(self) -> float:
        """The largest step, whatever is asked for: a vector may be divided by."""
        return DIVISOR_STEP * self.profile.smallest if self.profile.is_vector else math.inf

    def checked(self, choice: Choice) -> Choice:
        """Return the choice, or "as it is" where a grid would be larger or have codes out of range."""
        worth = choice.bits < self.profile.lossless_bits and choice.step > FINEST * self.profile.largest
        return choice if worth else Choice(0.0, UNIFORM, self.profile.lossless_bits, 0.0)

    def scaled(self, choice: Choice, factor: float) -> Choice:
        """Return the choice with its step times ``factor``, bits and error not updated; "as it is" stays so."""
        if choice.step == 0:
            return choice
        step = choice.step * factor
        return self.vector(step) if self.profile.is_vector else self.checked(replace(choice, step=step))


def choose(curves: Mapping[str, Curve], budget: float) -> dict[str, Choice]:
    """Return the choices of the smallest slope at which all tensors are estimated to take ``budget`` bits or less."""
    low, high = -80.0, 80.0  # of ln(slope): from everything as it is to everything zero
    weights = [curve.weight for curve in curves.values()]
    centre = math.log(max(weights)) + math.log(max(curve.profile.mean_square for curve in curves.values()))

    def at(exponent: float) -> dict[str, Choice]:
        return {name: curve.at(math.exp(min(centre + exponent, 700.0))) for name, curve in curves.items()}

    for _ in range(40):
        middle = (low + high) / 2
        bits = sum(choice.bits * curves[name].profile.size for name, choice in at(middle).items())
        low, high = (middle, high) if bits > budget else (low, middle)
    return at(high)
