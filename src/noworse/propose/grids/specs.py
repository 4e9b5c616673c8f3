"""Which tensors of a student get a grid, and how all others are kept."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

from noworse.errors import BadInput
from noworse.io import represent
from noworse.model.tensors import StateTensor
from noworse.propose.grids.general import GeneralGrids
from noworse.propose.grids.grid import GridSet, GridSpec
from noworse.propose.grids.transform import Transform
from noworse.rate.soft import Rate
from noworse.representation import Representation, Tied

GRID_DTYPES = ("float32", "float16", "bfloat16", "float64")


def grid_specs(
    chosen: Mapping[str, Tensor],
    originals: Mapping[str, Tensor],
    sensitivity: Mapping[str, float],
    channels_last: bool = True,
) -> list[GridSpec]:
    """The specs of the tensors with a grid, from the smallest on; BadInput for a dtype that has none."""
    specs = []
    for name, parameter in sorted(chosen.items(), key=lambda item: item[1].numel()):  # small ones share chunks
        kind = str(originals[name].dtype).removeprefix("torch.")
        if kind not in GRID_DTYPES:
            raise BadInput(f"parameter {name!r} has dtype {kind}: expected one of {', '.join(GRID_DTYPES)}")
        specs.append(GridSpec(name, tuple(parameter.shape), kind, sensitivity[name] > 0, channels_last))
    return specs


def fixed_items(
    entries: Sequence[StateTensor], originals: Mapping[str, Tensor], kept: Collection[str], chosen: Collection[str]
) -> dict[str, Representation]:
    """How tensors without a grid are stored; those of the names ``kept`` as they were given."""
    fixed: dict[str, Representation] = {}
    for entry in entries:
        original, own = originals[entry.name], entry.tensor.detach()
        given = entry.name in kept or _same_bits(own, original.to(own.dtype))  # not changed by folding
        tensor = original if given else own.to(original.dtype)
        if entry.tied_to is not None:
            fixed[entry.name] = Tied(entry.tied_to, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch."))
        elif entry.name not in chosen:
            fixed[entry.name] = represent(entry.name, tensor)
    return fixed


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors agree bit for bit, NaN included."""
    if one.dtype != torch.float32:
        return torch.equal(one, other)
    return torch.equal(one.contiguous().view(torch.int32), other.contiguous().view(torch.int32))


def grid_set(
    transform: Transform, rate: Rate, specs: list[GridSpec], weights: Mapping[str, Tensor], zone: float
) -> GridSet:
    """Grids of a transform, zero bins at first ``zone`` steps wide; those of straight lines are fast."""
    if not (transform.straight and rate.counted):
        return GeneralGrids(specs, weights, zone, transform, rate)
    grids = GridSet(specs, weights, zone if transform.tunes_zone else 0.5)
    grids.tunes_zones = transform.tunes_zone
    return grids
