"""Steps for all tensors by one slope: no bit could be moved from one tensor to another and lower the error.

The error of the model is taken to be the sum over tensors of a n D, with D the mean squared error of a tensor's
elements, R their bits, n their number, P their mean square and a = 1 / (n^BALANCE P). Every tensor takes the step and
the edge that minimise a D + lambda R for one lambda (Shoham and Gersho 1988; docs/tensor-files.md says why, and
measures BALANCE). From the slope that estimates ask for, one factor on all steps leads to the size of the packed file.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from noworse.codec import _native
from noworse.datafree.quantise import UNIFORM
from noworse.datafree.survey import Profile
from noworse.errors import TargetMissed
from noworse.representation import pack_step
from noworse.representation.grid import EDGE_UNITS

BALANCE = 1.0
STEPS = 2.0 ** np.arange(-9, 4.25, 0.25)  # tried, times the tensor's root mean square
EDGES = (32, 36, 40, 46, 54)  # tried, in 1/64 of a step
FINEST = 2.0**-29  # of the largest magnitude: codes have 30 bits
VECTOR_STEP = 1 / 64  # of the root mean square, at most: vectors are few, and all of a layer depends on them
DIVISOR_STEP = 1 / 16  # of the smallest magnitude but 0, where all have one sign: variances are divided by
AIM = 0.997  # of the target, in the middle of what is accepted
LEAST = 0.99
SLACK = 48  # bytes below the target that do as well: a small file has no steps for each of its sizes
PASSES = 12  # over the whole model
WIDEST = 8.0  # ln of the factor that the search gives up at
Grids = dict[str, tuple[int, int]]  # packed step and edge by name; tensors that are not in it stay as they are
Measure = Callable[[Grids], int]  # bytes of the file


@dataclass(frozen=True)
class GridChoice:
    """How one tensor is written: step and edge of a grid, or as it is where ``step`` is 0; estimated bits and error."""

    step: float
    edge: int
    bits: float  # per element
    error: float  # mean square


class RateDistortion:
    """Bits and error of one tensor at many steps and edges."""

    def __init__(self, profile: Profile) -> None:
        self.profile = profile
        self.weight = 1 / (profile.size**BALANCE * profile.mean_square)
        self._known: dict[tuple[float, int], tuple[float, float]] = {}  # costs: a search asks for most of them again

    @cached_property
    def _table(self) -> NDArray[np.float64]:
        """Rows of step, edge, bits and error; the first is the tensor as it is."""
        rms = math.sqrt(self.profile.mean_square)
        steps, edges = np.repeat(STEPS * rms, len(EDGES)), np.tile(EDGES, len(STEPS))
        tried = np.stack([steps, edges, *self._costs(STEPS * rms, EDGES)], axis=1)
        return np.concatenate([[[0.0, UNIFORM, self.profile.lossless_bits, 0.0]], tried])

    def cost(self, step: float, edge: int) -> tuple[float, float]:
        """Return bits and squared error per element, estimated from the sample."""
        if (step, edge) not in self._known:
            self._known[step, edge] = tuple(self._costs([step], [edge])[:, 0].tolist())
        return self._known[step, edge]

    def _costs(self, steps: ArrayLike, edges: ArrayLike) -> NDArray[np.float64]:
        """Those of all edges at all steps, edge by edge: bits and errors (2, n)."""
        scales, rs = np.asarray(steps, np.float64), np.asarray(edges, np.float64) / EDGE_UNITS
        found = np.empty((2, scales.size * rs.size))
        _native.costs(self.profile.sample, scales, rs, *found)
        return found

    def at(self, slope: float) -> GridChoice:
        """Return the best choice for ``slope``, in weighted squared error per bit."""
        if self.profile.is_vector:
            return self.vector(math.sqrt(6 * slope / (math.log(2) * self.weight)))
        table = self._table
        step, edge, bits, error = table[int(np.argmin(self.weight * table[:, 3] + slope * table[:, 2]))]
        return GridChoice(float(step), int(edge), float(bits), float(error))

    def vector(self, step: float) -> GridChoice:
        """Return a uniform grid for a vector, finer than asked for where it needs to be."""
        step = min(step, self.coarsest, VECTOR_STEP * math.sqrt(self.profile.mean_square))
        return self.checked(GridChoice(step, UNIFORM, *self.cost(step, UNIFORM)))

    @property
    def coarsest(self) -> float:
        """The largest step, whatever is asked for: a vector may be divided by."""
        return DIVISOR_STEP * self.profile.smallest if self.profile.is_vector else math.inf

    def checked(self, choice: GridChoice) -> GridChoice:
        """Return the choice, or "as it is" where a grid would be larger or have codes out of range."""
        worth = choice.bits < self.profile.lossless_bits and choice.step > FINEST * self.profile.largest
        return choice if worth else GridChoice(0.0, UNIFORM, self.profile.lossless_bits, 0.0)

    def scaled(self, choice: GridChoice, factor: float) -> GridChoice:
        """Return the choice with its step times ``factor``, bits and error not updated; "as it is" stays so."""
        if choice.step == 0:
            return choice
        step = choice.step * factor
        return self.vector(step) if self.profile.is_vector else self.checked(replace(choice, step=step))


def choices_within(curves: Mapping[str, RateDistortion], budget: float) -> dict[str, GridChoice]:
    """Return the choices of the smallest slope at which all tensors are estimated to take ``budget`` bits or less."""
    low, high = -80.0, 80.0  # of ln(slope): from everything as it is to everything zero
    weights = [curve.weight for curve in curves.values()]
    centre = math.log(max(weights)) + math.log(max(curve.profile.mean_square for curve in curves.values()))

    def at(exponent: float) -> dict[str, GridChoice]:
        return {name: curve.at(math.exp(min(centre + exponent, 700.0))) for name, curve in curves.items()}

    for _ in range(20):
        middle = (low + high) / 2
        bits = sum(choice.bits * curves[name].profile.size for name, choice in at(middle).items())
        low, high = (middle, high) if bits > budget else (low, middle)
    return at(high)


def steps_for_size(
    curves: Mapping[str, RateDistortion], target: int, other: float, measure: Measure, estimate: Measure
) -> Grids:
    """Return steps and edges for which ``measure``, the bytes of the file, is 99 to 100 % of ``target``,
    or less by SLACK at most.

    They are those of its last call, so that it may write the file.
    ``other`` estimates the bytes of all else, ``estimate`` those that ``measure`` would return. A file below 99 % is
    returned only where every tensor stays as it is. TargetMissed where no step is coarse enough.
    """
    for ask in (estimate, measure):  # the second time with what the first has shown about the rest of the file
        choices = choices_within(curves, 8 * (AIM * target - other))
        size = ask(_packed(choices))
        other = size - sum(choices[name].bits * curve.profile.size for name, curve in curves.items()) / 8
    if _lands(size, target, _packed(choices)):
        return _packed(choices)
    return _scaled(curves, choices, target, size, measure)


def _scaled(
    curves: Mapping[str, RateDistortion], choices: Mapping[str, GridChoice], target: int, size: int, measure: Measure
) -> Grids:
    """The same with one factor on all steps: regula falsi on its logarithm, kept within what is known."""
    known = {0.0: size}
    weights = sum(curves[name].profile.size for name, choice in choices.items() if choice.step)
    per_unit = max(weights, 1) / (8 * math.log(2))  # bytes saved by a factor of e, at high rates
    for _ in range(PASSES):
        above = [x for x, size in known.items() if size > target]
        below = [x for x, size in known.items() if size <= target]
        if above and below:
            a, b = max(above), min(below)
            share = (known[a] - AIM * target) / max(known[a] - known[b], 1)
            x = a + (b - a) * min(0.9, max(0.1, share))
        else:
            x0 = max(above) if above else min(below)
            x = x0 + min(2.0, max(-2.0, 1.5 * (known[x0] - AIM * target) / per_unit))
        if abs(x) > WIDEST:
            break
        grids = _packed({name: curves[name].scaled(choice, math.exp(x)) for name, choice in choices.items()})
        known[x] = measure(grids)
        if _lands(known[x], target, grids):
            return grids
    found = min(known.values(), key=lambda size: (size > target, abs(size - target)))
    raise TargetMissed(f"no steps give 99 to 100 % of {target:,} bytes; the nearest file has {found:,}", None, b"")


def _lands(size: int, target: int, grids: Grids) -> bool:
    return size <= target and (size >= min(LEAST * target, target - SLACK) or not grids)


def _packed(choices: Mapping[str, GridChoice]) -> Grids:
    return {name: (pack_step(choice.step), choice.edge) for name, choice in choices.items() if choice.step}
