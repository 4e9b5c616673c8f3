"""Weights to integer codes of b bits with one step per row or one for all.

Codes are symmetric, −(2ᵇ⁻¹ − 1) … 2ᵇ⁻¹ − 1, and steps are those that a file can hold (minifloats; rows are sixteenths
of an octave apart), so that what is measured is what is stored.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from noworse.errors import BadInput
from noworse.model.device import double
from noworse.propose.grids.compensated import Layer
from noworse.representation import Form, Grid, pack_step
from noworse.representation.columns import MAX_STEP
from noworse.representation.curves import CHANNEL_UNITS

UNIFORM_EDGE = 32  # of 64: all bins are equally wide
FINER = 24  # steps that are tried below the largest weight's, sixteenths of an octave each: down to 0.35 of it
REACH = 127  # of the byte that tells a row's step

Reach = Callable[[Tensor, int], Tensor]  # of weights (R, I) and bits the largest magnitudes (R,) that codes stand for


def largest_code(bits: int) -> int:
    """Return 2ᵇ⁻¹ − 1; BadInput unless 2 to 16 bits."""
    if not (isinstance(bits, int) and 2 <= bits <= 16):
        raise BadInput(f"codes of {bits!r} bits: expected 2 to 16")
    return int(2 ** (bits - 1) - 1)


def _values(numbers: Tensor) -> Tensor:
    """Steps of packed numbers, float64."""
    raw = numbers.clamp(1, MAX_STEP).cpu().numpy().astype(np.uint32) << np.uint32(15)
    return torch.from_numpy(raw.view(np.float32).astype(np.float64))


@dataclass(frozen=True)
class Steps:
    """A step's packed number for all rows, and what each row adds in sixteenths of an octave (empty: nothing)."""

    number: int
    rows: tuple[int, ...] = ()

    def values(self) -> Tensor:
        """Return the steps (R,), or (1,) where all rows share one; float64, exactly what a file holds."""
        return _values(self.number + CHANNEL_UNITS * torch.tensor(self.rows or (0,), device="cpu"))


def fit_steps(
    rows: Tensor, bits: int, per_channel: bool = True, reach: Reach | None = None, energy: Tensor | None = None
) -> Steps:
    """Return the steps of weights (R, I): those of the ``reach`` of each row, or of the least error without.

    Errors count by the inputs' ``energy`` (1, I) or (R, I).
    """
    wide = double(rows.detach())
    weight = torch.ones_like(wide[:1]) if energy is None else double(energy)
    if not per_channel:
        wide, weight = wide.reshape(1, -1), weight.expand(rows.shape).reshape(1, -1)
    most = largest_code(bits)
    numbers = _numbers((wide.abs().amax(1) if reach is None else reach(wide, bits)).div(most))
    base = int(numbers.median())
    start = ((numbers - base).double() / CHANNEL_UNITS).round().clamp(-REACH, REACH).long()
    offsets, best = start, torch.full_like(start, torch.inf, dtype=torch.float64)
    for k in range(-1, FINER) if reach is None else ():
        tried = (start - k).clamp(-REACH, REACH)
        steps = _values(base + CHANNEL_UNITS * tried)[:, None].to(wide.device)
        errors = ((wide / steps).round().clamp_(-most, most) * steps - wide).square_().mul_(weight).sum(1).cpu()
        better = errors < best
        offsets, best = torch.where(better, tried, offsets), torch.where(better, errors, best)
    if not per_channel:
        return Steps(base + CHANNEL_UNITS * int(offsets[0]))
    return Steps(base, tuple(offsets.tolist()))


def _numbers(steps: Tensor) -> Tensor:
    """Packed numbers of positive steps; zero rows get the least step of the others."""
    positive = steps[steps > 0]
    floor = float(positive.min()) if len(positive) else 1.0
    lowest = REACH * CHANNEL_UNITS  # leaves room for every row
    found = [min(max(pack_step(s), lowest), MAX_STEP - lowest) for s in steps.clamp(min=floor).tolist()]
    return torch.tensor(found, device="cpu")


@dataclass(frozen=True, eq=False)
class Rounded:
    """Weights as integer ``codes`` (R, I) of ``bits`` bits times ``steps``; ``decode`` has the weights' own shape.

    Both are on the processor, wherever the weights are.
    """

    codes: Tensor
    steps: Steps
    bits: int
    rounding: str  # "adaptive" or "nearest"
    shape: tuple[int, ...]

    def decode(self) -> Tensor:
        """Return ŵ in float32, bit for bit what a file gives back."""
        return (self.codes.double() * self.steps.values()[:, None]).float().reshape(self.shape)

    def grid(self) -> Grid:
        """Return what is written: a grid whose bins are all equally wide."""
        channels = np.array(self.steps.rows, np.int8).tobytes()
        codes = np.ascontiguousarray(self.codes.reshape(-1).numpy().astype(np.int32))
        return Grid(codes, self.steps.number, UNIFORM_EDGE, self.shape, "float32", Form(channels=channels))


def round_weights(weights: Tensor, bits: int, steps: Steps, layer: Layer | None = None) -> Rounded:
    """Return weights (R, ...) rounded to nearest, or so that errors of a row undo each other for a ``layer``'s inputs.

    See propose/grids/compensated.py.
    """
    most = largest_code(bits)
    scaled = double(weights.detach()).flatten(1)
    scaled = scaled / steps.values()[:, None].to(scaled.device)
    if layer is not None:  # rows are independent: a row divided by its step is rounded with step 1
        scaled = double(layer.compensated(scaled.reshape(weights.shape), 1.0, 0.5, most=most)).flatten(1)
    codes = scaled.round().clamp_(-most, most).to("cpu", torch.int8 if bits <= 8 else torch.int16)
    return Rounded(codes, steps, bits, "nearest" if layer is None else "adaptive", tuple(weights.shape))
