"""Grids that others have rounded to: found in the numbers, and checked to the last bit.

Quantised checkpoints that were turned back into floats lie on few levels per group of elements. What is found are the
size of the groups, scales in float16, bfloat16 or float32, and zero points or minima; a tensor is taken only where all
its elements come back exactly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from noworse.representation import Constant, Raw, Representation, from_float32, to_numpy
from noworse.representation.groups import HALVES, Groups, restored

SIZES = (256, 128, 64, 32, 16)  # of groups, besides a row
LEAST = 256  # elements of a tensor worth a search
LONGEST = 1 << 14  # row that is taken as a group
TRIED = 1 << 11  # elements that tell most other tensors
AT_ONCE = 1 << 16  # elements that are looked at together
LEVELS = 256
GAPS = (1, 2, 3, 4)  # steps that the nearest two levels of a group may be apart
TOPS = range(1, 16)
MANTISSA = {"float16": 11, "bfloat16": 8, "float32": 24}


class Lattice(NamedTuple):
    """Levels of groups: (groups, size) integers, (groups,) scales and, where they are not zero points, minima."""

    levels: NDArray[np.int16]
    scales: NDArray[np.float32]
    minima: NDArray[np.float32] | None


def on_groups(stored: NDArray[Any], dtype: str) -> Groups | None:
    """Return a tensor as codes, scales and shifts of groups, bit for bit; None where no such grid is found."""
    if dtype not in HALVES or stored.size < LEAST:
        return None
    row = stored.shape[-1]
    for size in dict.fromkeys((row, *SIZES)):
        if 4 <= size <= LONGEST and stored.size % size == 0 and row % size == 0:
            grouped = stored.reshape(-1, size)
            count = max(2, TRIED // size)
            few = grouped[:: max(1, len(grouped) // count)][:count]
            for scale, centred in _ways(few, dtype):
                if fit(few, dtype, scale, centred) and (found := _whole(grouped, dtype, scale, centred)):
                    return _made(found, stored.shape, dtype, scale)
    return None


def _ways(few: NDArray[Any], dtype: str) -> list[tuple[str, bool]]:
    """Dtypes of scales, and whether levels are centred, that these groups (n, size) leave possible at a glance."""
    values = _numbers(few, dtype)
    if values is None:
        return []
    ways = []
    for centred in (True, False):
        steps = values if centred else values - values.min(1, keepdims=True)
        if (np.abs(steps).max(1) <= LEVELS * GAPS[-1] * _nearest(steps)).all():
            ways += [(scale, centred) for scale in HALVES]
    return ways


def _numbers(stored: NDArray[Any], dtype: str) -> NDArray[np.float64] | None:
    """Stored elements as numbers; None where some are not finite."""
    values = to_numpy(stored, dtype)
    return values.astype(np.float64) if np.isfinite(values).all() else None


def _nearest(steps: NDArray[np.float64]) -> NDArray[np.float64]:
    """The least distance (n,) of two different ones of (n, size) steps or of 0, infinite where all are 0."""
    gaps = np.diff(np.sort(np.concatenate([steps, np.zeros((len(steps), 1))], 1), 1), axis=1)
    found: NDArray[np.float64] = gaps.min(1, where=gaps > 0, initial=np.inf)
    return found


def _whole(grouped: NDArray[Any], dtype: str, scale: str, centred: bool) -> Lattice | None:
    rows = max(1, AT_ONCE // grouped.shape[1])
    found = []
    for at in range(0, len(grouped), rows):
        part = fit(grouped[at : at + rows], dtype, scale, centred)
        if part is None:
            return None
        found.append(part)
    minima = None if centred else np.concatenate([part.minima for part in found if part.minima is not None])
    return Lattice(np.concatenate([p.levels for p in found]), np.concatenate([p.scales for p in found]), minima)


def fit(grouped: NDArray[Any], dtype: str, scale: str, centred: bool) -> Lattice | None:
    """Return the grids of all groups (n, size) of stored elements, with ``scale`` dtypes; None where one has none.

    Levels are multiples of the scale where they are ``centred``, else they begin at a minimum.
    """
    values = _numbers(grouped, dtype)
    if values is None:
        return None
    low = np.zeros(len(values)) if centred else values.min(1)
    if not np.array_equal(_rounded(low, scale), low):
        return None
    steps = values - low[:, None]
    minima = None if centred else low.astype(np.float32)
    levels, scales = np.zeros(values.shape, np.int16), np.ones(len(values), np.float32)
    left = np.arange(len(values))  # groups without a grid so far
    room = np.ldexp(0.5, np.frexp(values)[1] - MANTISSA[dtype])  # half of the place of a value's last bit
    for tried in _scales(steps, room, scale):
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            k = np.rint(steps[left] / tried[left, None])
            fits = (np.abs(k) < LEVELS).all(1)
        at, k, step = left[fits], k[fits], tried[left[fits]]
        if centred:
            turned = np.where(_turned(values[at], k), -1, 1)
            k, step = k * turned[:, None] + 0.0, step * turned.astype(np.float32)
        with np.errstate(invalid="ignore", over="ignore"):  # tried in vain where scales are as large as numbers get
            again = from_float32(restored(k, step[:, None], low[at, None].astype(np.float32), centred), dtype)
        same = (again.view(f"u{again.itemsize}") == grouped[at].view(f"u{again.itemsize}")).all(1)
        levels[at[same]], scales[at[same]] = k[same], step[same]
        left = np.setdiff1d(left, at[same])
        if not left.size:
            return Lattice(levels, scales, minima)
    return None


def _turned(values: NDArray[np.float64], k: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Groups whose scale is negative: their zeros are, or, without any, the level that is farthest out is positive.

    Grids from -8 to 7 are often laid out so that the largest element is at -8.
    """
    zeros = values == 0
    negative: NDArray[np.bool_] = np.where(zeros.any(1), (zeros & np.signbit(values)).any(1), k.max(1) > -k.min(1))
    return negative


def _scales(steps: NDArray[np.float64], room: NDArray[np.float64], scale: str) -> Iterator[NDArray[np.float32]]:
    """Yield scales (n,) worth trying: those in the midst of what rounding by ``room`` leaves, and at its ends.

    The level of the largest element follows from how many steps the nearest two levels are apart, or is tried.
    """
    sizes, nearest = np.abs(steps), _nearest(steps)
    largest = sizes.max(1)
    fine = np.finfo(np.float32).eps
    tops = [np.maximum(np.rint(largest / nearest * gap), 1) for gap in GAPS if nearest.max() < np.inf]
    tops += [np.full(len(sizes), top) for top in TOPS if (room > fine * sizes).any()]  # gaps of few bits tell little
    for top in tops:
        with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
            k = np.rint(sizes / (largest / top)[:, None])
            least = ((sizes - room) / k).max(1, where=k > 0, initial=0)
            most = ((sizes + room) / k).min(1, where=k > 0, initial=np.inf)
        for place in (0.5, 0.0, 1.0):
            yield _rounded(np.where(most < np.inf, (1 - place) * least + place * np.minimum(most, 1e38), 1.0), scale)


def _rounded(values: NDArray[np.float64], dtype: str) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):
        return to_numpy(from_float32(values.astype(np.float32), dtype), dtype).astype(np.float32)


def _made(found: Lattice, shape: tuple[int, ...], dtype: str, scale: str) -> Groups | None:
    """The tensor of a lattice; None where its levels are no bytes."""
    scales = _vector(from_float32(found.scales, scale), scale)
    levels = found.levels
    if found.minima is not None:
        minima = _vector(from_float32(found.minima, scale), scale)
        return Groups.of(levels.astype(np.uint8).reshape(shape), scales, minima, dtype)
    own = np.maximum(-levels.min(1), 0)
    shifts = np.full_like(own, own.max()) if int(levels.max()) + int(own.max()) < LEVELS else own
    codes = levels + shifts[:, None]
    if own.max() >= LEVELS or codes.max() >= LEVELS:
        return None
    return Groups.of(codes.astype(np.uint8).reshape(shape), scales, _vector(shifts.astype(np.uint8), "uint8"), dtype)


def _vector(stored: NDArray[Any], dtype: str) -> Representation:
    if bool((stored == stored[0]).all()):
        return Constant(stored[:1].tobytes(), stored.shape, dtype)
    return Raw(stored.view(np.uint8).data, stored.shape, dtype)
