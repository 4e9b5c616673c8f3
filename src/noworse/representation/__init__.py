"""How one tensor may be written: each kind is a frozen dataclass that declares all that a file has to know of it."""

from noworse.representation.base import BYTES, CODES, KINDS, NOTHING, Representation, Signature, TensorOfCodes, register
from noworse.representation.codebook import Codebook
from noworse.representation.columns import pack_step, unpack_step
from noworse.representation.constant import Constant
from noworse.representation.curves import PLAIN, Form
from noworse.representation.dtypes import DTYPES, find_dtype, from_float32, to_numpy
from noworse.representation.grid import EDGE_UNITS, MAX_EDGE, Grid
from noworse.representation.groups import Groups
from noworse.representation.outliers import Outliers
from noworse.representation.product import Product, matrix_shape
from noworse.representation.raw import Raw
from noworse.representation.tied import Tied

__all__ = [
    "BYTES", "CODES", "DTYPES", "EDGE_UNITS", "KINDS", "MAX_EDGE", "NOTHING", "PLAIN", "Codebook", "Constant", "Form",
    "Grid", "Groups", "Outliers", "Product", "Raw", "Representation", "Signature", "TensorOfCodes", "Tied",
    "find_dtype", "from_float32", "matrix_shape", "pack_step", "register", "to_numpy", "unpack_step",
]  # fmt: skip
