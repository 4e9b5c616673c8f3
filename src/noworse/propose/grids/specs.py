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


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def grid_specs(
    chosen: Mapping[str, Tensor],
    originals: Mapping[str, Tensor],
    sensitivity: Mapping[str, float],
    channels_last: bool = True,
    hard: Collection[str] = (),
) -> list[GridSpec]:
    """Return the specs of the ``chosen`` tensors, from the smallest on; BadInput for a dtype that has no grid.

    Tensors of no sensitivity have fixed steps, which are finer for those of the names ``hard``.
    """
    for name in chosen:
        if _kind(originals[name]) not in GRID_DTYPES:
            found = f"parameter {name!r} has dtype {_kind(originals[name])}"
            raise BadInput(f"{found}: expected one of {', '.join(GRID_DTYPES)}")
    return [
        GridSpec(
            name, tuple(parameter.shape), _kind(originals[name]), sensitivity[name] > 0, channels_last, name in hard
        )
        for name, parameter in sorted(chosen.items(), key=lambda item: item[1].numel())  # small ones share chunks
    ]


def fixed_items(
    entries: Sequence[StateTensor], originals: Mapping[str, Tensor], kept: Collection[str], chosen: Collection[str]
) -> dict[str, Representation]:
    """Return by name how tensors without a grid are stored; those of the names ``kept`` as they were given."""
    fixed: dict[str, Representation] = {}
    for entry in entries:
        original, own = originals[entry.name], entry.tensor.detach()
        given = entry.name in kept or _same_bits(own, original.to(own.dtype))  # not changed by folding
        tensor = original if given else own.to(original.dtype)
        if entry.tied_to is not None:
            fixed[entry.name] = Tied(entry.tied_to, tuple(tensor.shape), _kind(tensor))
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
    """Return grids of a transform, zero bins at first ``zone`` steps wide; those of the straight line are fast."""
    if transform.straight and rate.counted:
        return GridSet(specs, weights, zone, transform.tunes_zone)
    return GeneralGrids(specs, weights, zone, transform, rate)
