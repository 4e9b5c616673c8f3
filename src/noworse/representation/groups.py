"""A tensor on somebody else's grid, bit for bit: small integers, and for each group of elements how they are scaled.

Dequantised GGUF, GPTQ, AWQ and ternary checkpoints are such tensors. A group is so many consecutive elements, in C
order. Codes, scales and shifts are tensors of their own, coded as any others are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.errors import BadInput
from noworse.representation.base import Arrays, Representation, Signature, register
from noworse.representation.codebook import Codebook
from noworse.representation.constant import Constant
from noworse.representation.dtypes import PIECE, find_dtype, from_float32, to_numpy
from noworse.representation.raw import Raw

PARTS = (Constant, Raw, Codebook)  # kinds of codes, scales and shifts
HALVES = ("float16", "bfloat16", "float32")


@register
@dataclass(frozen=True)
class Groups(Representation):
    """Element i of group g is scale g times (code i − shift g), or scale g times code i, plus shift g.

    The former where shifts are integers (zero points), the latter where they are of the scales' dtype (minima). Every
    product and sum is rounded to float32, and the element then to its dtype.
    """

    number, label, dtypes, factors = 7, "groups", HALVES, 3

    codes: Representation  # uint8, of the tensor's shape
    scales: Representation  # (groups,) float16, bfloat16 or float32
    shifts: Representation  # (groups,) uint8, or of the scales' dtype
    shape: tuple[int, ...]
    dtype: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check(self.signature, [part.signature for part in self.others])
        if not all(np.isfinite(part).all() for part in self._scaling()):  # NaN differs between processors
            raise BadInput("a scale or a shift of groups is not finite")

    @classmethod
    def of(cls, codes: NDArray[np.uint8], scales: Representation, shifts: Representation, dtype: str) -> Groups:
        """Return the tensor of these codes, which have its shape."""
        return cls(Raw(codes.reshape(-1).data, codes.shape, "uint8"), scales, shifts, codes.shape, dtype)

    @property
    def others(self) -> Sequence[Representation]:
        """Codes, scales and shifts."""
        return [self.codes, self.scales, self.shifts]

    @classmethod
    def check(cls, signature: Signature, others: Sequence[Signature]) -> None:
        """Raise BadInput where these are no codes, scales and shifts of such a tensor."""
        codes, scales, shifts = others
        if any(part.kind not in PARTS for part in others):
            kinds = ", ".join(part.kind.label for part in others)
            raise BadInput(f"groups of {kinds}; expected {', '.join(kind.label for kind in PARTS)}")
        if (codes.dtype, codes.shape) != ("uint8", signature.shape):
            raise BadInput(f"codes of groups are {codes.dtype} of {codes.shape}, expected uint8 of {signature.shape}")
        count = scales.shape[0] if len(scales.shape) == 1 else 0
        if not (0 < count <= signature.size) or signature.size % count or shifts.shape != scales.shape:
            found = f"scales of {scales.shape} and shifts of {shifts.shape}"
            raise BadInput(f"{found} for {signature.size} elements, expected one of each for groups of equal size")
        if scales.dtype not in HALVES or shifts.dtype not in ("uint8", scales.dtype):
            found = f"scales are {scales.dtype} and shifts {shifts.dtype}"
            raise BadInput(f"{found}, expected {', '.join(HALVES)}, and shifts of the same or of uint8")

    @classmethod
    def assemble(cls, signature: Signature, fields: None, symbols: Arrays, others: Sequence[Any]) -> Groups:
        """See ``Representation.assemble``; ``others`` are codes, scales and shifts."""
        codes, scales, shifts = others
        return cls(codes, scales, shifts, signature.shape, signature.dtype)

    def storage(self) -> NDArray[Any]:
        """Return the elements that codes, scales and shifts mean."""
        scales, shifts = self._scaling()
        codes = self.codes.storage().reshape(len(scales), -1)
        out = np.empty(codes.shape, find_dtype(self.dtype).storage)
        rows = max(1, PIECE // codes.shape[1])
        for at in range(0, len(codes), rows):
            part = slice(at, at + rows)
            with np.errstate(over="ignore"):
                values = restored(codes[part], scales[part, None], shifts[part, None], self.shifts.dtype == "uint8")
                out[part] = from_float32(values, self.dtype)
        return out.reshape(self.shape)

    def _scaling(self) -> list[NDArray[np.float32]]:
        """Scales and shifts."""
        return [to_numpy(part.storage(), part.dtype).astype(np.float32) for part in self.others[1:]]

    @property
    def details(self) -> dict[str, Any]:
        """The elements of a group, and the dtypes of scales and shifts."""
        return {"group": self.size // self.scales.size, "scales": self.scales.dtype, "shifts": self.shifts.dtype}

    def __str__(self) -> str:
        return "groups of {group}, scales {scales}, shifts {shifts}".format(**self.details)


def restored(
    codes: NDArray[Any], scales: NDArray[np.float32], shifts: NDArray[np.float32], zero_points: bool
) -> NDArray[np.float32]:
    """Return what codes mean, in float32, by scales and shifts that broadcast to them."""
    values = codes.astype(np.float32)
    if zero_points:
        values -= shifts
    values *= scales
    if not zero_points:
        values += shifts
    return values
