"""Elements to codes of a grid, some at a time: a tensor costs its codes and little more."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.representation import Grid, Outliers, pack_step, to_numpy, unpack_step
from noworse.representation.columns import MAX_STEP
from noworse.representation.grid import EDGE_UNITS, MAX_CODE

AT_ONCE = 1 << 16  # elements whose doubles stay in the cache
UNIFORM = EDGE_UNITS // 2  # the edge at which all bins are equally wide
MANTISSA = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 24}  # bits of decoded values
SMALLEST = {"float16": 2.0**-25}  # half of the least value above 0, where weights come near to it


def quantise(stored: NDArray[Any], dtype: str, step: int, edge: int, largest: float = math.inf) -> Grid:
    """Return the grid of packed ``step`` and ``edge`` nearest to finite stored elements (docs/method.md).

    Elements of magnitudes beyond ``largest`` are listed beside it.
    """
    out, far = np.empty(stored.size, np.int32), []
    for start, values in zip(range(0, out.size, AT_ONCE), parts(stored, dtype), strict=True):
        is_far = np.abs(values) > largest
        far.append(start + np.flatnonzero(is_far))
        values[is_far] = 0
        out[start : start + AT_ONCE] = codes(values, unpack_step(step), edge / EDGE_UNITS)
    at = np.concatenate(far)
    return Outliers.beside(Grid(out, step, edge, stored.shape, dtype), at, stored.reshape(-1)[at])


def codes(values: NDArray[np.float64], step: float, r: float) -> NDArray[np.float64]:
    """Return whole numbers: 0 up to r steps from zero, +-k in the k-th bin of one step beyond."""
    return np.asarray(np.copysign(np.maximum(np.ceil(np.abs(values) / step - r), 0.0), values))


def grid_within(stored: NDArray[Any], dtype: str, bound: float, coarsest: float, largest: float) -> Grid | None:
    """Return a uniform grid up to step ``coarsest`` whose decoded elements are off by ``bound`` at most, or None.

    Elements of magnitudes beyond ``largest`` are listed beside it. The error is measured on what a reader gets, after
    rounding to ``dtype``.
    """
    # most that rounding adds to half a step
    rounding = 1.01 * (largest + bound) * 2.0 ** -MANTISSA[dtype] + SMALLEST.get(dtype, 0.0)
    for half in (bound, bound - rounding):
        step = _step_below(min(2 * half, coarsest))
        if step < 1 or largest > unpack_step(step) * MAX_CODE / 2:
            return None
        grid = quantise(stored, dtype, step, UNIFORM, largest)
        if _largest_error(stored, grid) <= bound:
            return grid
    return None


def squared_error(stored: NDArray[Any], grid: Grid) -> tuple[float, float]:
    """Return the sums of the squared errors of a grid's decoded elements, and of the squares of the elements.

    Outliers beside it count for nothing: they have no error, and their squares would hide that of all others.
    """
    old, new = stored.reshape(-1), grid.storage().reshape(-1)
    if isinstance(grid, Outliers):
        old, new[grid.at] = old.copy(), 0
        old[grid.at] = 0
    pairs = zip(parts(old, grid.dtype), parts(new, grid.dtype), strict=True)
    errors, squares = zip(*((float((new - old) @ (new - old)), float(old @ old)) for old, new in pairs))
    return sum(errors), sum(squares)


def _largest_error(stored: NDArray[Any], grid: Grid) -> float:
    pairs = zip(parts(stored, grid.dtype), parts(grid.storage(), grid.dtype), strict=True)
    return max(float(np.abs(new - old).max()) for old, new in pairs)


def parts(stored: NDArray[Any], dtype: str) -> Iterator[NDArray[np.float64]]:
    """Yield the elements as numbers, AT_ONCE at a time."""
    flat = stored.reshape(-1)
    for start in range(0, flat.size, AT_ONCE):
        yield doubles(flat[start : start + AT_ONCE], dtype)


def doubles(stored: NDArray[Any], dtype: str) -> NDArray[np.float64]:
    """Return stored elements as numbers."""
    return to_numpy(stored, dtype).astype(np.float64)


def _step_below(step: float) -> int:
    """The largest packed step that is not larger than ``step``; 0 where there is none."""
    if not step > 0:
        return 0
    packed = pack_step(min(step, unpack_step(MAX_STEP)))
    return packed - (unpack_step(packed) > step)
