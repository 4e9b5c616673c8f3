"""The element types of a file: name, code on disk, width, and how numpy sees each (it has no bfloat16, no float8)."""

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


def _dtype(code: int, name: str) -> DType:
    kind = next(kind for kind in ("bool", "int", "float", "complex") if kind in name)
    storage = "u2" if name == "bfloat16" else "u1" if name.startswith("float8") else name
    return DType(name, code, kind, np.dtype(storage).newbyteorder("<"), native=storage == name)


_NAMES = ["bool", *(f"{sign}int{bits}" for sign in ("u", "") for bits in (8, 16, 32, 64))]
_NAMES += ["float16", "float32", "float64", "bfloat16", "float8_e4m3fn", "float8_e5m2"]
_NAMES += ["float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "complex64", "complex128"]
DTYPES = {name: _dtype(code, name) for code, name in enumerate(_NAMES)}
BY_CODE = {d.code: d for d in DTYPES.values()}


def find_dtype(name: str) -> DType:
    """Return the element type called ``name``; BadInput for any other name."""
    found = DTYPES.get(name)
    if found is None:
        raise BadInput(f"dtype {name!r} cannot be stored; expected one of {', '.join(DTYPES)}")
    return found


def to_numpy(stored: NDArray[Any], name: str) -> NDArray[Any]:
    """Return stored elements as numbers: bfloat16 and float8 become float32 holding exactly the same values."""
    dtype = find_dtype(name)
    if dtype.native:
        return stored
    if name == "bfloat16":
        return (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
    values: NDArray[Any] = _float8_values(name)[stored]
    return values


def from_float32(values: NDArray[np.float32], name: str) -> NDArray[Any]:
    """Return float32 values as stored elements of a float of 16 bits or more, rounded once, to nearest even.

    What is not a number becomes the quiet NaN of its sign.
    """
    storage = find_dtype(name).storage
    if storage.itemsize > 2:
        return values.astype(storage, copy=False)
    rounded, nan = (_bfloat16_bits, 0x7FC0) if name == "bfloat16" else (_float16_bits, 0x7E00)
    out, flat = np.empty(values.size, np.uint16), values.reshape(-1).view(np.uint32)
    for start in range(0, out.size, PIECE // 8):  # half a dozen temporaries each
        bits = flat[start : start + PIECE // 8]
        size = bits & np.uint32(0x7FFFFFFF)
        halves = rounded(size)
        np.copyto(halves, np.uint32(nan), where=size > np.uint32(0x7F800000))
        out[start : start + PIECE // 8] = halves | ((bits >> np.uint32(16)) & np.uint32(0x8000))
    return out.view(storage).reshape(values.shape)


def _bfloat16_bits(size: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """The upper half of bits without sign, rounded."""
    return (size + np.uint32(0x7FFF) + ((size >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)


def _float16_bits(size: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Bits of float16 for bits of float32 without sign.

    numpy's own conversion raises a processor flag for every overflow and underflow, at 80 ns each.
    """
    bits: NDArray[np.uint32] = size + np.uint32(0xFFF) + ((size >> np.uint32(13)) & np.uint32(1))
    bits = np.minimum((bits >> np.uint32(13)) - np.uint32((127 - 15) << 10), np.uint32(0x7C00))
    small = np.minimum(size, np.uint32(0x38800000)).view(np.float32)  # up to 2**-14, in steps of 2**-24 ..
    units = small + np.float32(0.5)  # .. which are those of float32 beyond 1/2
    np.copyto(bits, units.view(np.uint32) - np.float32(0.5).view(np.uint32), where=size < np.uint32(0x38800000))
    return bits


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
