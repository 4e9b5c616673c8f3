"""What all model files have in common: named tensors of known dtype and shape, read one at a time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from noworse.representation import Described


@dataclass(frozen=True)
class Header(Described):
    """Dtype (as in ``noworse.representation.DTYPES``) and shape of one tensor."""

    dtype: str
    shape: tuple[int, ...]


class Checkpoint(ABC):
    """Tensors by name; ``headers`` tells what they are, in the order of the file, before any is read.

    ``metadata`` are the texts that the file holds beside them.
    """

    headers: Mapping[str, Header]
    metadata: Mapping[str, str] = MappingProxyType({})

    @abstractmethod
    def read(self, name: str) -> NDArray[Any]:
        """The elements of one tensor as stored (see ``DType.storage``), in an array that is the caller's alone."""
