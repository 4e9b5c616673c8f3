"""A tensor that shares its storage with another one of the same file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from noworse.errors import BadInput
from noworse.representation.base import Arrays, Representation, Signature, register


@register
@dataclass(frozen=True)
class Tied(Representation):
    """A tensor that shares the storage of ``target``, which has the same shape and dtype and is not tied itself."""

    number, label, refers = 3, "tied", True

    target: str
    shape: tuple[int, ...]
    dtype: str

    @property
    def others(self) -> Sequence[str]:
        """The target."""
        return [self.target]

    @classmethod
    def check(cls, signature: Signature, others: Sequence[Signature]) -> None:
        """Raise BadInput where the target is tied itself, or is another kind of array."""
        (target,) = others
        if target.kind.refers or (target.shape, target.dtype) != (signature.shape, signature.dtype):
            raise BadInput(f"a tensor of {signature.dtype} {signature.shape} is tied to one that is itself tied or of"
                           f" another shape: {target.dtype} {target.shape}")  # fmt: skip

    @classmethod
    def assemble(cls, signature: Signature, fields: None, symbols: Arrays, others: Sequence[Any]) -> Tied:
        """See ``Representation.assemble``; ``others`` hold the target's name."""
        return cls(others[0], signature.shape, signature.dtype)

    def zeros(self) -> None:
        """Return None: its elements are the target's."""

    @property
    def details(self) -> dict[str, Any]:
        """The target."""
        return {"tied_to": self.target}

    def __str__(self) -> str:
        return f"= {self.target}"

    def storage(self) -> NDArray[Any]:
        """Raise BadInput: the data are the target's."""
        raise BadInput(f"a tied tensor has no data of its own: decode its target {self.target!r}")
