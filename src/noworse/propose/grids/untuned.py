"""Weights before any rounding, to which a start goes back: shared with the original wherever that has them already."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from noworse.model.device import double
from noworse.propose.grids.grid import GridSet


class Untuned:
    """The state of grids as it is now, of the tensors that this rank has.

    ``sources`` may tell a tensor, by name, as another tensor of its shape in weight units and factors that it is
    multiplied by, one after the other in float64. Where that gives the same bits, no copy is kept.
    """

    def __init__(self, grids: GridSet, sources: Mapping[str, tuple[Tensor, Sequence[Tensor]]] | None = None) -> None:
        self.grids = grids
        self._sources: dict[int, tuple[Tensor, Sequence[Tensor]]] = {}
        self._small = [tensor.clone() for tensor in grids.tensors[1:]]
        self._copies: dict[int, Tensor] = {}
        for k, place in grids.places.items():
            if sources and grids.specs[k].name in sources:
                self._sources[k] = sources[grids.specs[k].name]
            if k not in self._sources or not torch.equal(self._made(k), grids.latent[place]):
                self._sources.pop(k, None)
                self._copies[k] = grids.latent[place].clone()

    @torch.no_grad()
    def _made(self, k: int) -> Tensor:
        """Latent weights (n,) of tensor k by its source."""
        tensor, factors = self._sources[k]
        for factor in factors:
            tensor = (double(tensor) * factor).to(tensor)
        return self.grids.normal(k, tensor)

    def latent(self, k: int) -> Tensor:
        """Return the latent weights of tensor k (n,), one of this rank's, in their unit of that time."""
        return self._copies[k] if k in self._copies else self._made(k)

    def weights(self, k: int) -> Tensor:
        """Return the weights of tensor k, as a row of the flat vector."""
        return self.latent(k) * self._small[0][k]

    @torch.no_grad()
    def restore(self) -> None:
        """Bring the grids back to this state, in place."""
        for tensor, value in zip(self.grids.tensors[1:], self._small, strict=True):
            tensor.copy_(value)
        for k, place in self.grids.places.items():
            self.grids.latent[place] = self.latent(k)
