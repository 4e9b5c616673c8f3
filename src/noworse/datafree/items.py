"""Tensors of a model file as they are to be written, made when asked for: one is in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.checkpoint import Checkpoint
from noworse.checkpoint.storage import lossless
from noworse.datafree.quantise import squared_error
from noworse.datafree.survey import Ties
from noworse.representation import Grid, Representation, Tied

Coarsen = Callable[[NDArray[Any], str], Grid | None]  # stored elements and their dtype; None: keep them as they are


class Items(Mapping[str, Representation]):
    """Equal tensors once, those with an entry in ``coarse`` as its grid, all others bit for bit."""

    def __init__(self, source: Checkpoint, coarse: Mapping[str, Coarsen], measure: bool = False) -> None:
        self._source = source
        self._coarse = coarse
        self._measure = measure
        self.ties = Ties(source)
        self.grids: dict[str, tuple[float, float]] = {}  # where measured: sum of squared errors, and of squares

    def __len__(self) -> int:
        return len(self._source.headers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._source.headers)

    def __getitem__(self, name: str) -> Representation:
        header = self._source.headers[name]
        stored = self._source.read(name)
        first = self.ties.find(name, stored)
        if first is not None:
            return Tied(first, header.shape, header.dtype)
        grid = self._coarse[name](stored, header.dtype) if name in self._coarse else None
        if grid is None:
            return lossless(stored, header.dtype)
        if self._measure:
            self.grids[name] = squared_error(stored, grid)
        return grid

    @property
    def relative_error(self) -> float:
        """Root of the squared error of all grids over the squares of their elements; 0 without any."""
        error, square = np.sum(list(self.grids.values()) or [(0.0, 1.0)], axis=0)
        return float(np.sqrt(error / square))
