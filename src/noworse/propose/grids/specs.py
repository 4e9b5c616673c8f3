"""Which tensors of a student get a grid, and how all others are kept."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from noworse.checkpoint.storage import storage
from noworse.datafree.outliers import largest_of_others
from noworse.datafree.quantise import parts
from noworse.datafree.survey import at_the_end
from noworse.errors import BadInput
from noworse.io import represent
from noworse.model.tensors import StateTensor
from noworse.propose.grids.general import GeneralGrids
from noworse.propose.grids.grid import NONE, GridSet, GridSpec, Outlying
from noworse.propose.grids.transform import Transform
from noworse.rate.soft import Rate
from noworse.representation import Representation, Tied
from noworse.run.processes import ALONE, World

MASK = 32  # elements from which on a tensor of two values is no accident
GRID_DTYPES = ("float32", "float16", "bfloat16", "float64")


def _kind(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def gridded(
    entries: Sequence[StateTensor],
    parameters: Mapping[str, nn.Parameter],
    originals: Mapping[str, Tensor],
    kept: Collection[str],
) -> dict[str, nn.Parameter]:
    """Return the ``parameters`` that get a grid, by name; all others stay bit for bit.

    Masks have two values, which a grid could only make worse; numbers at the end of a dtype have codes without one.
    """
    names = (entry.name for entry in entries if entry.is_grid and entry.name not in kept)
    return {n: parameters[n] for n in names if not (_is_mask(parameters[n]) or _too_large(parameters[n], originals[n]))}


def _is_mask(tensor: Tensor) -> bool:
    flat = tensor.detach().flatten()
    return len(flat) >= MASK and bool(((flat == flat.min()) | (flat == flat.max())).all())


def _too_large(tensor: Tensor, original: Tensor) -> bool:
    kind, most = _kind(original), float(tensor.detach().abs().max())
    return at_the_end(most, kind) and at_the_end(_largest(tensor, original), kind)


def _largest(tensor: Tensor, original: Tensor) -> float:
    """The largest magnitude but outliers."""
    flat: NDArray[np.float32] = tensor.detach().reshape(-1).cpu().numpy()
    return largest_of_others(parts(flat, "float32"), flat.size, 8 * original.element_size())


def outlying(tensor: Tensor, original: Tensor) -> Outlying:
    """Return the outliers of a student's ``tensor``, with values in the dtype of the ``original``."""
    largest = _largest(tensor, original)
    places = (tensor.detach().reshape(-1).abs() > largest).nonzero()[:, 0]
    if not len(places):
        return NONE
    return Outlying(places.cpu().numpy(), storage(as_stored(tensor, original).reshape(-1)[places]))


def grid_specs(
    chosen: Mapping[str, Tensor],
    originals: Mapping[str, Tensor],
    sensitivity: Mapping[str, float],
    channels_last: bool = True,
    hard: Collection[str] = (),
    factors: Collection[str] = (),
) -> list[GridSpec]:
    """Return the specs of the ``chosen`` tensors, from the smallest on; BadInput for a dtype that has no grid.

    Tensors of no sensitivity have fixed steps, which are finer for those of the names ``hard``. The ``factors`` of
    products have no outliers: a file has no list for them.
    """
    for name in chosen:
        if _kind(originals[name]) not in GRID_DTYPES:
            found = f"parameter {name!r} has dtype {_kind(originals[name])}"
            raise BadInput(f"{found}: expected one of {', '.join(GRID_DTYPES)}")
    specs = []
    for name, parameter in sorted(chosen.items(), key=lambda item: item[1].numel()):  # small ones share chunks
        outliers = NONE if name in factors else outlying(parameter, originals[name])
        kind, tuned = _kind(originals[name]), sensitivity[name] > 0
        specs.append(GridSpec(name, tuple(parameter.shape), kind, tuned, channels_last, name in hard, outliers))
    return specs


def fixed_items(
    entries: Sequence[StateTensor], originals: Mapping[str, Tensor], kept: Collection[str], chosen: Collection[str]
) -> dict[str, Representation]:
    """Return by name how tensors without a grid are stored; those of the names ``kept`` as they were given."""
    fixed: dict[str, Representation] = {}
    for entry in entries:
        tensor = as_stored(entry.tensor.detach(), originals[entry.name], entry.name in kept)
        if entry.tied_to is not None:
            fixed[entry.name] = Tied(entry.tied_to, tuple(tensor.shape), _kind(tensor))
        elif entry.name not in chosen:
            fixed[entry.name] = represent(entry.name, tensor)
    return fixed


def as_stored(own: Tensor, original: Tensor, kept: bool = False) -> Tensor:
    """Return a student's tensor as the file has it: the ``original`` where folding did not change it, or it is kept."""
    given = kept or _same_bits(own.detach(), original.to(own))
    return original if given else own.detach().to(original.dtype)


def _same_bits(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors agree bit for bit, NaN included."""
    if one.dtype != torch.float32:
        return torch.equal(one, other)
    return torch.equal(one.contiguous().view(torch.int32), other.contiguous().view(torch.int32))


def grid_set(
    transform: Transform,
    rate: Rate,
    specs: list[GridSpec],
    weights: Mapping[str, Tensor],
    zone: float,
    world: World = ALONE,
) -> GridSet:
    """Return grids of a transform, zero bins at first ``zone`` steps wide; those of the straight line are fast."""
    if transform.straight and rate.counted:
        return GridSet(specs, weights, zone, transform.tunes_zone, world)
    return GeneralGrids(specs, weights, zone, transform, rate, world)
