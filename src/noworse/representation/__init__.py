"""How one tensor may be written: each kind is a frozen dataclass that decodes back to numbers."""

from __future__ import annotations

from noworse.representation.base import Described, Representation
from noworse.representation.constant import Constant
from noworse.representation.dtypes import DTYPES, DType, find_dtype, from_float32, to_numpy
from noworse.representation.form import CHANNEL_UNITS, PLAIN, Form
from noworse.representation.grid import EDGE_UNITS, MAX_EDGE, Grid, check_scale
from noworse.representation.minifloat import pack_step, unpack_step
from noworse.representation.product import Product, check_factors, matrix_shape
from noworse.representation.raw import Raw
from noworse.representation.tied import Tied

__all__ = [
    "CHANNEL_UNITS",
    "DTYPES",
    "EDGE_UNITS",
    "MAX_EDGE",
    "PLAIN",
    "Constant",
    "DType",
    "Described",
    "Form",
    "Grid",
    "Product",
    "Raw",
    "Representation",
    "Tied",
    "check_factors",
    "check_scale",
    "find_dtype",
    "from_float32",
    "matrix_shape",
    "pack_step",
    "to_numpy",
    "unpack_step",
]
