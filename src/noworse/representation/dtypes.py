"""The element types of a file: name, code on disk, width, and how numpy sees each (it has no bfloat16, no float8)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.errors import BadInput

PIECE = 1 << 16  # elements converted together, so that temporaries stay small


@dataclass(frozen=True)
class DType:
    """One element type: its name (as in torch), its code in a file and the numpy type holding its bits."""

    name: str
    code: int
    kind: str  # "bool", "int", "float" or "complex"
    storage: np.dtype[Any]  # little-endian; unsigned integers of the same width where numpy lacks the type
    native: bool = True  # numpy has the type itself

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self.storage.itemsize


def _native(code: int, name: str, kind: str) -> DType:
    return DType(name, code, kind, np.dtype(name).newbyteorder("<"))


def _foreign(code: int, name: str, storage: str) -> DType:
    return DType(name, code, "float", np.dtype(storage), native=False)


_ALL = [
    _native(0, "bool", "bool"),
    *(_native(1 + i, name, "int") for i, name in enumerate(["uint8", "uint16", "uint32", "uint64"])),
    *(_native(5 + i, name, "int") for i, name in enumerate(["int8", "int16", "int32", "int64"])),
    *(_native(9 + i, name, "float") for i, name in enumerate(["float16", "float32", "float64"])),
    _foreign(12, "bfloat16", "<u2"),
    _foreign(13, "float8_e4m3fn", "u1"),
    _foreign(14, "float8_e5m2", "u1"),
    _foreign(15, "float8_e4m3fnuz", "u1"),
    _foreign(16, "float8_e5m2fnuz", "u1"),
    _foreign(17, "float8_e8m0fnu", "u1"),
    *(_native(18 + i, name, "complex") for i, name in enumerate(["complex64", "complex128"])),
]
DTYPES = {d.name: d for d in _ALL}
BY_CODE = {d.code: d for d in _ALL}


def find_dtype(name: str) -> DType:
    """The element type called ``name``; BadInput for any other name."""
    found = DTYPES.get(name)
    if found is None:
        raise BadInput(f"dtype {name!r} cannot be stored; expected one of {', '.join(DTYPES)}")
    return found


def to_numpy(stored: NDArray[Any], name: str) -> NDArray[Any]:
    """Turn stored elements into numbers: bfloat16 and float8 become float32 holding exactly the same values."""
    dtype = find_dtype(name)
    if dtype.native:
        return stored
    if name == "bfloat16":
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    values: NDArray[Any] = _float8_values(name)[stored]
    return values


def from_float32(values: NDArray[np.float32], name: str) -> NDArray[Any]:
    """Round float32 values once, to nearest even, to a floating ``name`` of 16 bits or more, as stored elements."""
    if name == "bfloat16":
        return _to_bfloat16(values)
    with np.errstate(over="ignore"):  # beyond the range of float16 lies infinity, as IEEE 754 says
        return values.astype(find_dtype(name).storage, copy=False)


def _to_bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    out, flat = np.empty(values.size, np.uint16), values.reshape(-1).view(np.uint32)
    for start in range(0, out.size, PIECE):
        bits = flat[start : start + PIECE]
        even = np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
        out[start : start + PIECE] = (bits + even) >> np.uint32(16)
    return out.reshape(values.shape)


@cache
def _float8_values(name: str) -> NDArray[np.float32]:
    """The 256 values of a float8 type (OCP 8-bit floating point 1.0; the fnuz variants of Noune et al. 2022)."""
    code = np.arange(256)
    if name == "float8_e8m0fnu":
        values = np.ldexp(1.0, code - 127)
        values[255] = np.nan
        return values.astype(np.float32)
    mantissa_bits, bias = {"e4m3fn": (3, 7), "e5m2": (2, 15), "e4m3fnuz": (3, 8), "e5m2fnuz": (2, 16)}[name[7:]]
    exponent = (code & 0x7F) >> mantissa_bits
    mantissa = code & ((1 << mantissa_bits) - 1)
    significand = np.where(exponent > 0, mantissa + (1 << mantissa_bits), mantissa)
    values = np.ldexp(significand.astype(np.float64), np.maximum(exponent, 1) - bias - mantissa_bits)
    if name.endswith("fnuz"):
        values[128] = np.nan
    elif name == "float8_e4m3fn":
        values[[0x7F, 0xFF]] = np.nan
    else:
        values[[0x7C, 0xFC]] = np.inf
        values[[0x7D, 0x7E, 0x7F, 0xFD, 0xFE, 0xFF]] = np.nan
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(code >= 128, -values, values), np.float32)
