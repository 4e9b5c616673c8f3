"""A tensor that shares its storage with another one of the same file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from noworse.errors import BadInput
from noworse.representation.base import Representation


@dataclass(frozen=True)
class Tied(Representation):
    """The same storage as the tensor called ``target``, which has the same shape and dtype and is not tied itself."""

    target: str
    shape: tuple[int, ...]
    dtype: str

    def storage(self) -> NDArray[Any]:
        """Always BadInput: the data are the target's."""
        raise BadInput(f"a tied tensor has no data of its own: decode its target {self.target!r}")
