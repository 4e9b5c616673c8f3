"""A few elements so far from all others that a grid which reaches them is no good for the rest: which they are.

A step is at least the largest magnitude over LARGEST_CODE, and it is chosen as a share of the root mean square, 1/FINE
where a tensor is to stay almost as it was. So the n - k elements beside the k largest have steps in proportion to

    s(k) = max(x(k+1) / LARGEST_CODE, rms(k) / FINE)

with x(k+1) the largest of them and rms(k) their root mean square. A list of the k largest, of their places and values,
costs k (log2 n + width) bits and saves each other element log2(s(0) / s(k)), by which its code says more; and all of
its bits, width, where that is log2 FINE or more, since without the list it is less than a step.
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

LARGEST_CODE = 2_000  # eleven bits of the largest weight: no net here gains from more
FINE = 64
FEW, SHARE, MOST = 2, 4, 1 << 10  # a tensor may have FEW and 1/SHARE of its root, less than a row has, and up to MOST
LEAST = 2.0  # s(0) / s(k) below which no element is called an outlier: all tensors have tails


def may_have_outliers(size: int, largest: float, mean_square: float) -> bool:
    """Tell from the largest magnitude and the mean square whether ``largest_of_others`` may find any outlier.

    Where s(0) is rms(0) / FINE, as long as what is left without the most outliers has a quarter of all squares: none.
    """
    if not largest < 0.99 * math.sqrt(mean_square) * LARGEST_CODE / FINE:
        return True
    return not _most(size) * largest * largest < 0.99 * (1 - LEAST**-2) * size * mean_square


def _most(size: int) -> int:
    return min(FEW + math.isqrt(size) // SHARE, MOST, size)


def largest_of_others(parts: Iterable[NDArray[np.float64]], size: int, width: int) -> float:
    """Return the largest magnitude of a tensor without its outliers: beyond it lies what is worth a list of its own.

    ``parts`` are its ``size`` elements, of ``width`` bits each, in pieces of any size; infinite ones are no outliers.
    """
    most = _most(size)
    top, rest = np.zeros(0), 0.0  # magnitudes of the largest so far, ascending, and the squares of all others
    with np.errstate(over="ignore", invalid="ignore"):
        for part in parts:
            is_far = np.abs(part) > (top[0] if len(top) > most else -1.0)
            far = np.sort(np.concatenate([top, np.abs(part[is_far])]))
            top, near = far[-most - 1 :], np.where(is_far, 0, part)
            rest += float(np.square(near).sum()) + float(np.square(far[: -most - 1]).sum())  # BLAS would start threads
        x, squares = top[::-1], rest + np.cumsum(top * top)[::-1]  # x[k] is the largest beside k
    return float(x[_count(x, squares, size, width)]) if len(x) and np.isfinite(x[0]) else np.inf


def _count(x: NDArray[np.float64], squares: NDArray[np.float64], size: int, width: int) -> int:
    """How many of the largest are outliers, given magnitudes x(k+1) and sums of squares beside k, for k from 0 on."""
    k = np.arange(len(x))[squares > 0]  # something must be left that a grid can tell
    if not len(k):
        return 0
    rms = np.minimum(np.sqrt(squares[k] / (size - k)), x[k])  # where squares are beyond every float
    log_step = np.log2(np.maximum(x[k] / LARGEST_CODE, rms / FINE))
    finer = log_step[0] - log_step
    saved = (size - k) * (finer + width * (finer >= np.log2(FINE))) - k * (np.log2(size) + width)
    best = int(np.argmax(saved))
    return best if finer[best] >= np.log2(LEAST) else 0
