"""One look at every tensor: what is equal, what stays lossless and why, and a sample that stands for the rest."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.checkpoint import Checkpoint, Header
from noworse.codec import _native
from noworse.datafree.outliers import largest_of_others, may_have_outliers
from noworse.datafree.quantise import doubles, elements, parts
from noworse.format.chunks import entropy
from noworse.representation.base import FLOATS
from noworse.representation.raw import split

SAMPLE = 1 << 13  # elements
SMALLEST_TIE = 1 << 10  # elements from which on equal tensors are stored once
LARGEST = {"float16": 65504.0}  # of a dtype, where it is not float32's
NEAR = 8  # times smaller than that are the largest elements whose codes decode to finite values at every step
GLANCE = 64  # bytes at either end by which tensors are told apart, elements that tell most from constant ones


class Ties:
    """Tensors that were seen before, bit for bit: recognised by their ends, then compared as a whole."""

    def __init__(self, source: Checkpoint) -> None:
        self._source = source
        self._first: dict[tuple[Any, ...], str] = {}
        self.found: dict[str, str] = {}

    def find(self, name: str, stored: NDArray[Any]) -> str | None:
        """Return the first tensor of the same dtype, shape and elements, unless it is this one or too small."""
        if stored.size < SMALLEST_TIE:
            return None
        data = stored.reshape(-1).view(np.uint8)
        key = (self._source.headers[name], data[:GLANCE].tobytes(), data[-GLANCE:].tobytes())
        first = self._first.setdefault(key, name)
        if first == name or not np.array_equal(self._source.read(first).reshape(-1).view(np.uint8), data):
            return None
        self.found[name] = first
        return first


@dataclass(frozen=True)
class Profile:
    """Statistics of all elements of a tensor that may become coarser, but outliers, and a sample of them."""

    size: int
    is_vector: bool  # at most one extent above 1: biases, scales and statistics of norms
    mean_square: float
    largest: float  # magnitude; elements beyond it are outliers
    smallest: float  # magnitude but 0 where no two elements differ in sign, else infinity
    sample: NDArray[np.float64] = field(repr=False)  # sorted
    lossless_bits: float  # per element, estimated


def profile(header: Header, stored: NDArray[Any]) -> Profile | str:
    """Return the profile of a tensor, or why it stays as it is."""
    if header.dtype not in FLOATS:
        return header.dtype
    flat = stored.reshape(-1)
    if flat.size < 2 or not ((flat[:GLANCE] != flat[0]).any() or (flat != flat[0]).any()):
        return "constant"
    square, low, high, smallest = _statistics(flat, header.dtype, np.inf)
    largest = max(abs(low), abs(high))
    if may_have_outliers(flat.size, largest, square):
        largest = largest_of_others(parts(flat, header.dtype), flat.size, 8 * flat.itemsize)
        square, low, high, smallest = _statistics(flat, header.dtype, largest)
    if not np.isfinite(square):
        return "NaN, infinite or huge values"
    if not square:
        return "zeros"
    if at_the_end(max(-low, high), header.dtype):
        return "values at the end of what its dtype can hold"
    chosen = flat[np.random.default_rng(0).integers(0, flat.size, SAMPLE)] if flat.size > SAMPLE else flat
    sample = doubles(chosen, header.dtype)
    return Profile(
        flat.size,
        sum(extent > 1 for extent in header.shape) <= 1,
        square,
        max(abs(low), abs(high)),
        np.inf if low < 0 < high else smallest,
        np.sort(sample[np.abs(sample) <= largest]),
        sum(min(8.0, entropy(np.bincount(plane))) for plane in split(chosen.tobytes(), header.dtype)),
    )


def at_the_end(largest: float, dtype: str) -> bool:
    """Tell whether elements of magnitudes up to this may have codes that decode to no finite value of their dtype."""
    return largest > LARGEST.get(dtype, float(np.finfo(np.float32).max)) / NEAR


def _statistics(flat: NDArray[Any], dtype: str, most: float) -> tuple[float, float, float, float]:
    """Mean square (not finite where an element is not), smallest and largest element, smallest magnitude but 0.

    Elements of magnitudes beyond ``most`` do not count.
    """
    square, count, low, high, smallest = _native.extent(elements(flat, dtype), most)
    return square / count, low, high, smallest
