"""What all model files have in common: tensors of known dtype and shape, and how safetensors calls the dtypes."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from noworse.errors import BadInput
from noworse.representation.base import Described, checked_shape

TO_SAFETENSORS = {
    "bool": "BOOL",
    **{f"uint{bits}": f"U{bits}" for bits in (8, 16, 32, 64)},
    **{f"int{bits}": f"I{bits}" for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"F{bits}" for bits in (16, 32, 64)},
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
    "complex64": "C64",
}
FROM_SAFETENSORS = {theirs: ours for ours, theirs in TO_SAFETENSORS.items()}


@dataclass(frozen=True)
class Header(Described):
    """Dtype (as in ``noworse.representation.DTYPES``) and shape of one tensor."""

    dtype: str
    shape: tuple[int, ...]


def header_of(path: Path, name: str, dtype: str, shape: Sequence[int]) -> Header:
    """Return the header of a tensor in the file at ``path``; BadInput, which names both, for an absurd shape."""
    try:
        return Header(dtype, checked_shape(shape))
    except BadInput as error:
        raise BadInput(f"{path}: tensor {name!r}: {error}") from error


class Checkpoint(ABC):
    """Tensors by name; ``headers`` tells what they are, in the order of the file, before any is read.

    ``metadata`` are the texts that the file holds beside them, ``paths`` the files that are read.
    """

    paths: Sequence[Path]
    headers: Mapping[str, Header]
    metadata: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def read(self, name: str) -> NDArray[Any]:
        """Return one tensor's elements as stored (see ``DType.storage``), in an array that is the caller's alone."""
