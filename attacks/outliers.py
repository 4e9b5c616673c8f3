"""Bad lists of outliers: a docstring says what each file is, the decorator what the reader must answer."""

from __future__ import annotations

import numpy as np

from attacks.base import attack, one
from attacks.forge import columns_of, forge
from noworse.format import File
from noworse.representation import Grid, Outliers
from noworse.representation.columns import varints

HEAD = 2  # high byte of the step and edge, before the number of outliers


def honest() -> File:
    """Forty elements, of which two are listed."""
    grid = Grid(np.zeros(40, np.int32), 30000, 32, (40,), "float32")
    return one(Outliers.beside(grid, np.array([3, 8]), np.array([1e4, -1e4], np.float32)))


def listed(data: bytes) -> bytes:
    """The honest file with another list."""
    return forge(honest(), outliers=columns_of(honest())["outliers"][:HEAD] + data)


@attack("a place of an outlier beyond")
def place_beyond_the_end() -> bytes:
    """A write behind the tensor, into whatever follows it in memory."""
    return listed(varints([2, 3, 40]) + bytes(8))


@attack("do not ascend below 40")
def sum_of_gaps_beyond_the_end() -> bytes:
    """Every gap is small, their sum is not."""
    return listed(varints([2, 30, 30]) + bytes(8))


@attack("1025 outliers of one tensor")
def more_than_a_list_holds() -> bytes:
    """So many that the index would be all that there is."""
    return listed(varints([1025]) + bytes(1025 * 5))


@attack("0 places and 0 bytes of values")
def empty_list() -> bytes:
    """A list of nothing, so that many files mean one tensor."""
    return listed(varints([0]))


@attack("numbers, only")
def list_without_bytes() -> bytes:
    """A thousand places of which none follows."""
    return listed(varints([1000]))
