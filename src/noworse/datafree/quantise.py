"""Elements to codes of a grid, some at a time: a tensor costs its codes and little more."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.codec import _native
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
    out = np.empty(stored.size, np.int32)
    far = _native.nearest(elements(stored, dtype), unpack_step(step), edge / EDGE_UNITS, largest, out)
    grid = Grid(out, step, edge, stored.shape, dtype)
    if not far:
        return grid
    places = [np.flatnonzero(np.abs(values) > largest) for values in parts(stored, dtype)]
    at = np.concatenate([AT_ONCE * i + found for i, found in enumerate(places)])
    return Outliers.beside(grid, at, stored.reshape(-1)[at])


def elements(stored: NDArray[Any], dtype: str) -> NDArray[Any]:
    """Return stored elements as native code takes them: flat, bfloat16 as its bits, float16 as float32."""
    flat = stored.reshape(-1)
    return flat.astype(np.float32) if dtype == "float16" else flat


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
    if not isinstance(grid, Outliers) and grid.dtype in ("float32", "float64"):
        scale = unpack_step(grid.step), grid.edge
        return _native.grid_squares(stored.reshape(-1), grid.codes, *scale)
    old, new = stored.reshape(-1), grid.storage().reshape(-1)
    if isinstance(grid, Outliers):
        old, new[grid.at] = old.copy(), 0
        old[grid.at] = 0
    return _native.squares(elements(old, grid.dtype), elements(new, grid.dtype))


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
