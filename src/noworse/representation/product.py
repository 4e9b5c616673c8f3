"""A tensor of low rank: the matrix product of two grids, each coded on its own.

Grid points are integers times a unit, so a product is a sum of integers times both units. In float64 such sums are
exact below 2**53, and no order of summation changes a bit of them. Larger ones, which no ordinary tensor has, are
summed in the order of the inner dimension, each product and each sum rounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.errors import BadInput
from noworse.representation.base import FLOATS, Arrays, Representation, Signature, register
from noworse.representation.columns import unpack_step
from noworse.representation.curves import PLAIN
from noworse.representation.dtypes import DType, find_dtype, from_float32
from noworse.representation.grid import EDGE_UNITS, Grid

FLAT, SPATIAL = range(2)  # splits of a tensor's dimensions into those of the rows and those of the columns
EXACT = 1 << 53  # integers of a float64
PIECE = 1 << 20  # elements multiplied at a time ..
CLOSE = 1 << 15  # .. and so many where every product is rounded, which takes a pass over all sums for each


def matrix_shape(shape: tuple[int, ...], split: int) -> tuple[int, int]:
    """Return rows and columns of a tensor seen as a matrix; BadInput where it cannot be split like that.

    Flat: rows are the first dimension. Spatial: of a kernel (O, C, H, W) rows are (O, W) and columns (C, H).
    """
    if not math.prod(shape) or len(shape) < 2 or (split == SPATIAL and len(shape) != 4) or split not in (FLAT, SPATIAL):
        raise BadInput(
            f"a product of shape {shape} and split {split}, expected a matrix, or split 1 of four dimensions"
        )
    rows = shape[0] * shape[3] if split == SPATIAL else shape[0]
    return rows, math.prod(shape) // rows


def check_factors(shape: tuple[int, ...], split: int, left: tuple[int, ...], right: tuple[int, ...]) -> None:
    """Raise BadInput where factors of these shapes do not make a tensor of ``shape``, or are no smaller than it."""
    rows, columns = matrix_shape(shape, split)
    rank = right[0] if len(right) == 2 else 0
    if rank == 0 or left != (rows, rank) or right != (rank, columns):
        raise BadInput(f"factors {left} and {right} of a product, expected ({rows}, r) and (r, {columns})")
    if rank * (rows + columns) > rows * columns:
        raise BadInput(f"a product of rank {rank} is larger than its {rows} x {columns} elements")


@register
@dataclass(frozen=True)
class Product(Representation):
    """``left`` (M, r) times ``right`` (r, N), seen as a tensor of ``shape`` by ``split`` (see ``matrix_shape``)."""

    number, label, dtypes, factors = 4, "product", FLOATS, 2

    left: Grid
    right: Grid
    split: int
    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        super().__post_init__()
        check_factors(self.shape, self.split, self.left.shape, self.right.shape)
        if (self.left.dtype, self.right.dtype) != (self.dtype, self.dtype):
            raise BadInput(f"factors of {self.left.dtype} and {self.right.dtype}, expected {self.dtype}")
        if (self.left.form, self.right.form) != (PLAIN, PLAIN):
            raise BadInput("a factor of a product has a form, expected plain grids")

    @property
    def signature(self) -> Signature:
        """Kind, dtype, shape and split."""
        return Signature(type(self), self.dtype, self.shape, bytes([self.split]))

    @property
    def others(self) -> Sequence[Grid]:
        """The factors."""
        return [self.left, self.right]

    @classmethod
    def value_bytes(cls, dtype: DType) -> int:
        """Return one, for the split."""
        return 1

    @classmethod
    def check(cls, signature: Signature, others: Sequence[Signature]) -> None:
        """Raise BadInput where they are no grids of its dtype, or of other shapes than factors have."""
        if any((factor.kind, factor.dtype) != (Grid, signature.dtype) for factor in others):
            raise BadInput(f"a product of {signature.dtype} has factors that are no grids of this dtype")
        check_factors(signature.shape, signature.value[0], others[0].shape, others[1].shape)

    @classmethod
    def multiplications(cls, signature: Signature, others: Sequence[Signature]) -> int:
        """Return as many for every element as the rank."""
        return signature.size * others[0].shape[1]

    @classmethod
    def assemble(cls, signature: Signature, fields: None, symbols: Arrays, others: Sequence[Any]) -> Product:
        """See ``Representation.assemble``; ``others`` are the factors."""
        left, right = others
        return cls(left, right, signature.value[0], signature.shape, signature.dtype)

    @property
    def details(self) -> dict[str, Any]:
        """The rank."""
        return {"rank": self.right.shape[0]}

    def __str__(self) -> str:
        return f"product of rank {self.right.shape[0]}"

    def storage(self) -> NDArray[Any]:
        """Return the product, each element rounded to float64, float32 and the dtype in turn."""
        rows, columns = matrix_shape(self.shape, self.split)
        out = np.empty((rows, columns), find_dtype(self.dtype).storage)
        unit = unpack_step(self.left.step) * unpack_step(self.right.step) / EDGE_UNITS**2
        right = _points(self.right, 0, self.right.shape[0])
        exact = len(right) * _largest(self.left) * _largest(self.right) < EXACT
        multiply = np.matmul if exact else _in_order
        count = max(1, (PIECE if exact else CLOSE) // columns)  # rows
        for start in range(0, rows, count):
            with np.errstate(over="ignore"):  # hostile steps may lead to infinity, which is no crash
                sums = multiply(_points(self.left, start, start + count), right) * unit
                out[start : start + count] = from_float32(sums.astype(np.float32), self.dtype)
        if self.split == SPATIAL:
            first, second, height, width = self.shape
            return np.ascontiguousarray(out.reshape(first, width, second, height).transpose(0, 2, 3, 1))
        return out.reshape(self.shape)


def _largest(grid: Grid) -> int:
    """Bound of a grid's points in units of step/64."""
    return EDGE_UNITS * max(-int(grid.codes.min()), int(grid.codes.max())) + grid.edge


def _in_order(left: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """The matrix product with sums formed from the first product to the last."""
    sums = np.zeros((len(left), right.shape[1]))
    for k in range(len(right)):
        sums += left[:, k, None] * right[k]
    return sums


def _points(grid: Grid, start: int, end: int) -> NDArray[np.float64]:
    """Points of rows ``start`` to ``end`` in units of step/64: integers, as float64."""
    k = grid.codes.reshape(grid.shape)[start:end].astype(np.float64)
    return np.sign(k) * (grid.edge + EDGE_UNITS * np.abs(k) - EDGE_UNITS // 2)  # type: ignore[no-any-return]
