"""A model file to a .nwt file: bit for bit, or coarser without looking at any data."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from numpy.typing import NDArray

from noworse.checkpoint import Checkpoint, open_checkpoint
from noworse.checkpoint.storage import lossless as bit_for_bit
from noworse.datafree.quantise import UNIFORM, grid_within, quantise, squared_error
from noworse.datafree.slope import GridChoice, Grids, RateDistortion, steps_for_size
from noworse.datafree.survey import Ties, profile
from noworse.errors import BadInput
from noworse.format import METADATA, Lazy
from noworse.format.source import atomic_file, destination
from noworse.format.writer import estimated_size, overwrite
from noworse.representation import Grid, Representation, Tied
from noworse.task.target import Sized, parse_target

Coarsen = Callable[[NDArray[Any], str], Grid | None]  # stored elements and their dtype; None: keep them as they are


@dataclass(frozen=True)
class Errors:
    """How coarse the tensors of a kind are: roots of squared errors over squares of the elements, tensor by tensor."""

    tensors: int
    median: float
    worst: float
    worst_tensor: str

    def __str__(self) -> str:
        shares = f"{100 * self.median:.3g} % (median of {self.tensors}), at worst {100 * self.worst:.3g} %"
        return f"{shares} ({self.worst_tensor})"

    @classmethod
    def of(cls, errors: Mapping[str, float]) -> Errors:
        """Return the summary of errors by name of tensor."""
        worst = max(errors, key=errors.__getitem__)
        return cls(len(errors), statistics.median(errors.values()), errors[worst], worst)


@dataclass(frozen=True)
class FileReport(Sized):
    """Result of ``compress_file``; sizes in bytes, ``original_size`` of the tensors with equal ones counted once."""

    source: str
    path: str
    size: int
    original_size: int
    elements: int
    tensors: int
    lossless: int  # tensors that are bit for bit the original's
    errors: dict[str, Errors]  # of all others, by kind: "matrices", and "vectors" such as biases and scales
    settings: dict[str, Any]

    def __str__(self) -> str:
        bits = 8 * self.size / max(self.elements, 1)
        text = f"{self.path}: {self.size:,} bytes, {self.ratio:.2f} times smaller than {self.original_size:,}"
        text += f"; {bits:.2f} bits per element\n"
        if self.lossless == self.tensors:
            return text + f"all {self.tensors} tensors are stored bit for bit"
        text += f"{self.tensors - self.lossless} of {self.tensors} tensors are coarser, of their root mean square: "
        text += "; ".join(f"{kind} by {found}" for kind, found in self.errors.items())
        return text + ".\nNo loss was verified: how good the model still is, nobody has measured."


def compress_file(
    source: str | Path,
    out: str | Path,
    *,
    lossless: bool = False,
    target: float | str | None = None,
    max_error: float | str | None = None,
) -> FileReport:
    """Compress a model file, tensor by tensor, in exactly one of three ways.

    ``source`` is a .safetensors file, the .index.json of a sharded one, a folder with either, or a state dict that
    torch saved. ``lossless``: bit for bit. ``target``: at most this size and at least 99 % of it, or 48 bytes less (a
    ratio, "400KB", "4 bits" per element). ``max_error``: no element of any tensor is off by more, as a number (0.01)
    or relative to the largest magnitude of its tensor, outliers left out ("1%"). The latter two need no data, and
    nothing is known of the loss they cause.

    Raises BadInput for what cannot be read, written or asked for, TargetMissed for a size that cannot be reached.
    """
    if [lossless, target is not None, max_error is not None].count(True) != 1:
        raise BadInput("a model file is compressed with exactly one of lossless, target and max_error")
    checkpoint = open_checkpoint(source)
    destination(out, *checkpoint.paths)
    settings: dict[str, Any] = {"mode": "lossless" if lossless else "data-free, no loss verified"}
    if checkpoint.metadata:
        settings[METADATA] = dict(checkpoint.metadata)
    draft = Draft(checkpoint, settings)
    if target is not None:
        settings["target"] = str(target)
        settle = _to_size(draft, target)
    elif max_error is not None:
        settings["max_error"] = str(max_error)
        settle = partial(draft.write, _to_error(checkpoint, max_error))
    else:
        settle = partial(draft.write, {})
    with atomic_file(out) as draft.file:
        settle()
        items, size = draft.items, draft.size
    tied = items.ties.found
    own = [header for name, header in checkpoint.headers.items() if name not in tied]
    return FileReport(
        str(source),
        str(out),
        size,
        sum(header.nbytes for header in own),
        sum(header.size for header in own),
        len(checkpoint.headers),
        len(checkpoint.headers) - len(items.grids) - sum(first in items.grids for first in tied.values()),
        items.errors(),
        settings,
    )


class Draft:
    """A file that is written until it is as it should be; ``items`` and ``size`` are those of the last time."""

    file: BinaryIO
    items: Items

    def __init__(self, checkpoint: Checkpoint, settings: dict[str, Any]) -> None:
        self.checkpoint, self._settings, self.size = checkpoint, settings, 0

    def write(self, coarse: Mapping[str, Coarsen]) -> int:
        """Write all tensors, those in ``coarse`` as grids, and return the bytes of the file."""
        self.items = Items(self.checkpoint, coarse, measure=True)
        self.size = overwrite(self.file, self.items, self._settings)
        return self.size

    def estimate(self, coarse: Mapping[str, Coarsen]) -> int:
        """Return about what ``write`` would."""
        return estimated_size(Items(self.checkpoint, coarse), self._settings)


class Items(Lazy[Representation]):
    """Tensors of a model file to be written: equal ones once, those in ``coarse`` as grids, others bit for bit."""

    def __init__(self, source: Checkpoint, coarse: Mapping[str, Coarsen], measure: bool = False) -> None:
        super().__init__({name: partial(self._make, name) for name in source.headers})
        self._source, self._coarse, self._measure = source, coarse, measure
        self.ties = Ties(source)
        self.grids: dict[str, tuple[float, float]] = {}  # where measured: sum of squared errors, and of squares

    def _make(self, name: str) -> Representation:
        header, stored = self._source.headers[name], self._source.read(name)
        first = self.ties.find(name, stored)
        if first is not None:
            return Tied(first, header.shape, header.dtype)
        grid = self._coarse[name](stored, header.dtype) if name in self._coarse else None
        if grid is None:
            return bit_for_bit(stored, header.dtype)
        if self._measure:
            self.grids[name] = squared_error(stored, grid)
        return grid

    def errors(self) -> dict[str, Errors]:
        """Return the errors of all grids by kind of tensor."""
        kinds: dict[str, dict[str, float]] = {}
        for name, (error, square) in self.grids.items():
            matrix = sum(extent > 1 for extent in self._source.headers[name].shape) > 1
            kinds.setdefault("matrices" if matrix else "vectors", {})[name] = math.sqrt(error / square)
        return {kind: Errors.of(found) for kind, found in sorted(kinds.items())}


def _survey(checkpoint: Checkpoint) -> tuple[dict[str, RateDistortion], dict[str, str]]:
    """Curves of all tensors that may become coarser, and the names of tensors that equal others."""
    ties, curves = Ties(checkpoint), {}
    for name in checkpoint.headers:
        stored = checkpoint.read(name)
        if ties.find(name, stored) is None:
            found = profile(checkpoint.headers[name], stored)
            if not isinstance(found, str):
                curves[name] = RateDistortion(found)
    if not curves:
        raise BadInput("the file has no tensor of finite floating-point numbers that could become coarser")
    return curves, ties.found


def _to_size(draft: Draft, target: float | str) -> Callable[[], object]:
    """Return what writes a draft of this size."""
    curves, tied = _survey(draft.checkpoint)
    headers = draft.checkpoint.headers
    own = [header for name, header in headers.items() if name not in tied]
    size = parse_target(target, sum(header.nbytes for header in own), sum(header.size for header in own))

    largest = {name: curve.profile.largest for name, curve in curves.items()}

    def coarse(grids: Grids) -> dict[str, Coarsen]:
        return {n: partial(quantise, step=step, edge=edge, largest=largest[n]) for n, (step, edge) in grids.items()}

    other = sum(header.nbytes for name, header in headers.items() if name not in {*tied, *curves})
    asked = (lambda grids: draft.write(coarse(grids))), (lambda grids: draft.estimate(coarse(grids)))
    return partial(steps_for_size, curves, size, other, *asked)


def _to_error(checkpoint: Checkpoint, max_error: float | str) -> Mapping[str, Coarsen]:
    """Grids for a bound of the error, where they are estimated to be smaller than the tensors as they are."""
    bound, relative = _parse_bound(max_error)
    coarse: dict[str, Coarsen] = {}
    for name, curve in _survey(checkpoint)[0].items():
        own = bound * (curve.profile.largest if relative else 1.0)
        step = min(2 * own, curve.coarsest)
        if curve.checked(GridChoice(step, UNIFORM, *curve.cost(step, UNIFORM))).step:
            coarse[name] = partial(grid_within, bound=own, coarsest=curve.coarsest, largest=curve.profile.largest)
    return coarse


def _parse_bound(max_error: float | str) -> tuple[float, bool]:
    """A number and whether it is relative."""
    text = str(max_error).strip()
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise BadInput(f"max_error {max_error!r} is not understood: expected a positive number such as 0.01, or '1%'")
    return value, text.endswith("%")
