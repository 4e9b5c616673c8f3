"""All dead-zone grids of a model on one flat vector: latent weights, steps and zones, and their gradients.

Latent weights are in code units, v = w/s₀ with s₀ the step at the start, so that one learning rate fits all tensors.
Weights are on any device; what each tensor has one of, as its step and its zone, is on the processor. Of several ranks
each has the latent weights of some tensors alone (shares.py).
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from noworse.datafree.outliers import LARGEST_CODE
from noworse.format import Lazy
from noworse.model.device import double
from noworse.propose.grids import kernels
from noworse.propose.grids.chunks import Chunk, cut
from noworse.propose.grids.histogram import Histogram
from noworse.propose.grids.shares import Shares
from noworse.propose.grids.transform import magnitude, stored_steps
from noworse.rate.counter import CELLS, Cells, Slopes, entropy_slopes, hard_bits, lay_out, locate
from noworse.rate.soft import Kernel
from noworse.representation import EDGE_UNITS, MAX_EDGE, PLAIN, Form, Grid, Outliers, pack_step, to_numpy
from noworse.run.processes import ALONE, World
from noworse.run.threads import each

EDGE_MIN = 26  # in 1/64 of a step
ZONE_MIN = 0.4
SMALLEST = 1e-37  # step that all machines compute with alike


@dataclass(frozen=True)
class Outlying:
    """Elements of a tensor that are listed beside its grid: places in C order, ascending, and values as stored."""

    places: NDArray[np.int64]
    values: NDArray[Any]

    def mask(self, shape: Sequence[int]) -> Tensor:
        """Return where they are, in a tensor of this shape."""
        found = torch.zeros(tuple(shape), dtype=torch.bool, device="cpu")
        found.view(-1)[torch.from_numpy(self.places)] = True
        return found


NONE = Outlying(np.zeros(0, np.int64), np.zeros(0, np.float32))


@dataclass(frozen=True)
class GridSpec:
    """One tensor of the set: name, shape, dtype of the model, whether its step and zone are tuned, its layout.

    ``outliers`` are what its grid need not reach.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    tuned: bool = True
    channels_last: bool = True  # in the flat vector, of kernels of convolutions: CPUs prefer that
    hard: bool = False  # used, although no gradient tells what for
    outliers: Outlying = NONE

    @property
    def _moved(self) -> bool:
        return self.channels_last and len(self.shape) == 4

    def flatten(self, tensor: Tensor) -> Tensor:
        """Return the tensor as a row of the flat vector."""
        return (tensor.permute(0, 2, 3, 1) if self._moved else tensor).reshape(-1)

    def unflatten(self, row: Tensor) -> Tensor:
        """Return the tensor of a row of the flat vector, as a view."""
        if self._moved:
            out, channels, height, width = self.shape
            return row.view(out, height, width, channels).permute(0, 3, 1, 2)
        return row.view(self.shape)

    def grid(self, codes: Tensor, step: Tensor, zone: Tensor, form: Form = PLAIN) -> Grid:
        """Return what the file holds of codes (n,) in a row, with a step, a half zone in steps and a curve."""
        whole = self.unflatten(codes.int()).reshape(-1).cpu().numpy()
        grid = Grid(whole, pack_step(float(step)), round(float(zone) * EDGE_UNITS), self.shape, self.dtype, form)
        return Outliers.beside(grid, self.outliers.places, self.outliers.values)

    def others(self, tensor: Tensor) -> Tensor:
        """Return a tensor of this shape as a row (n,) in float32, outliers as 0: grids are those of the others."""
        flat = self.flatten(tensor).float()
        return flat.index_fill(0, self.fixed()[0].to(flat.device), 0) if len(self.outliers.places) else flat

    def fixed(self) -> tuple[Tensor, Tensor]:
        """Return the places (n,) of outliers in the row, ascending, and their values (n,) in float32."""
        numbers = torch.full(self.shape, -1, device="cpu")
        numbers.view(-1)[torch.from_numpy(self.outliers.places)] = torch.arange(len(self.outliers.places), device="cpu")
        row = self.flatten(numbers)
        at = (row >= 0).nonzero()[:, 0]
        values = to_numpy(self.outliers.values, self.dtype).astype(np.float32)
        return at, torch.from_numpy(values)[row[at]]


class GridSet:
    """The grids of K tensors with N weights in all; ``latent`` (n,), ``log_step`` and ``log_zone`` (K,) are the leaves.

    ``bits`` (K,) holds the ideal code lengths of the hard codes, in bits, as of the last ``quantise``; ``rows`` are the
    tensors' places in a vector of all weights, ``places`` those of this rank's in its latents, by number. Zero bins of
    weights are at first ``zone`` steps wide, where they are tuned. All ranks of a ``world`` make the same calls, but
    for what names one tensor.
    """

    straight = True  # whether compensated rounding and factors know these grids
    remakes = True  # whether gradients() can do without ŵ
    native = True  # whether native code does what it knows (kernels.py)

    def __init__(
        self,
        specs: list[GridSpec],
        weights: Mapping[str, Tensor],
        zone: float,
        tunes_zones: bool = True,
        world: World = ALONE,
    ) -> None:
        self.specs, self.tunes_zones = specs, tunes_zones
        self.sizes = [weights[s.name].numel() for s in specs]
        self.offsets = [0, *itertools.accumulate(self.sizes)]
        self.count = self.offsets[-1]
        self.rows = [slice(*ends) for ends in itertools.pairwise(self.offsets)]
        self.shares = shares = Shares(world, self.sizes)
        first = shares.part.start
        self.places = {k: slice(self.offsets[k] - first, self.offsets[k + 1] - first) for k in shares.own}
        self.largest, self.rms = [], []
        self.device = weights[specs[0].name].device
        new: Callable[..., Tensor] = functools.partial(torch.tensor, device="cpu")
        self.latent = torch.empty(shares.part.stop - first, device=self.device)
        fixed = [(new([], dtype=torch.int64), new([]))]
        for k, spec in enumerate(specs):  # one copy of one tensor at a time: large models barely fit twice
            flat = spec.others(weights[spec.name].detach())
            if len(spec.outliers.places):
                at, values = spec.fixed()
                fixed.append((at + self.offsets[k], values))
            self.largest.append(float(flat.abs().max()))
            self.rms.append(float(double(flat).square().mean().sqrt()))
            if k in self.places:
                torch.div(flat, self.largest[k], out=self.latent[self.places[k]])
        places, values = map(torch.cat, zip(*fixed, strict=True))
        self._fixed, self._values = places.to(self.device), values.to(self.device)  # of outliers
        self.unit = new(self.largest)  # until rebase()
        self.log_step = self.unit.log()
        zones = new([zone if tunes_zones and len(s.shape) > 1 else 0.5 for s in specs])
        self.log_zone = (zones - ZONE_MIN).log()
        self.tuned = new([s.tuned for s in specs])
        self.finest, self.coarsest = (torch.full_like(self.unit, end) for end in (0, torch.inf))  # steps at the start
        self.bits = torch.zeros_like(self.unit, dtype=torch.float64)
        own = self.sizes[shares.own.start : shares.own.stop]
        self._chunks = list(cut(own, self.device))
        self._slopes = Slopes(new([]), *(torch.zeros(len(own), device="cpu") for _ in range(2)))
        self._cells: Cells | None = None
        self._ends = np.cumsum(own, dtype=np.int64)
        self._quantised = self._placed()  # of the last quantise()

    @property
    def leaves(self) -> list[tuple[str, Tensor]]:
        """The leaves, each with the option that is its learning rate."""
        return [("lr_weights", self.latent), ("lr_steps", self.log_step), ("lr_zones", self.log_zone)]

    def steps(self) -> Tensor:
        """Return step sizes s (K,) in weight units, as the file holds them: what is tuned is what is written."""
        least = torch.tensor(self.largest, device="cpu") / LARGEST_CODE
        return stored_steps(self.log_step.exp().maximum(least).clamp(min=SMALLEST))

    def _placed(self) -> kernels.Placed:
        unit, steps, zones = map(self.shares.of_own, (self.unit, self.steps(), self.zones()))
        return kernels.Placed(self._ends, unit / steps, steps, zones)

    def zones(self) -> Tensor:
        """Return half widths r (K,) of the zero bins in steps, as the file holds them."""
        units = (self.log_zone.exp() + ZONE_MIN).mul(EDGE_UNITS).round()
        return units.clamp(EDGE_MIN, MAX_EDGE) / EDGE_UNITS

    def weights(self, k: int) -> Tensor:
        """Return the latent weights of tensor k, one of this rank's, in weight units, as a row of the flat vector."""
        return self.latent[self.places[k]] * self.unit[k]

    def fetch(self, k: int, make: Callable[[], Tensor]) -> Tensor:
        """Return, on all ranks, the row (n,) of tensor k that the one that has it makes; all ask at a time."""
        row = make() if k in self.places else self.latent.new_empty(self.sizes[k])
        self.shares.world.copy_([row], self.shares.homes[k])
        return row

    @torch.no_grad()
    def set_weights(self, k: int, tensor: Tensor) -> None:
        """Replace the latent weights of tensor k, where they are, by ``tensor``, of its shape and in weight units."""
        if k in self.places:
            self.latent[self.places[k]] = self.specs[k].others(tensor) / self.unit[k]

    def normal(self, k: int, tensor: Tensor) -> Tensor:
        """Return a tensor, of the shape of k and in weight units, as a row of latents before any ``rebase``."""
        return self.specs[k].others(tensor) / self.largest[k]

    def put_outliers(self, values: Tensor) -> None:
        """Put outliers in their places among weights (N,); their latent weights are 0, and so are their codes."""
        values[self._fixed] = self._values

    def complete(self, values: Tensor) -> None:
        """Let weights (N,), of which each rank has made its part, be the same on all of them, outliers included."""
        self.shares.world.spread_(self.shares.parts(values))
        self.put_outliers(values)

    def state(self) -> tuple[Tensor, ...]:
        """Return copies of ``tensors``, which ``restore`` brings back."""
        return tuple(t.clone() for t in self.tensors)

    @torch.no_grad()
    def restore(self, state: tuple[Tensor, ...]) -> None:
        """Go back to a state, in place."""
        for tensor, value in zip(self.tensors, state, strict=True):
            tensor.copy_(value)

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that is changed in tuning: weights, their unit, steps and zones."""
        return self.latent, self.unit, self.log_step, self.log_zone

    @torch.no_grad()
    def rebase(self) -> None:
        """Make the present steps the unit of the latents."""
        steps = self.steps()
        ratios = (self.unit / steps).tolist()
        for k, place in self.places.items():
            self.latent[place] *= ratios[k]
        self.unit.copy_(steps)

    @torch.no_grad()
    def quantise(self, out: Tensor, kernel: Kernel | None = None, on_weights: bool = True) -> None:
        """Write ŵ (N,) into ``out`` and refresh ``bits``; with a ``kernel`` also the soft entropy's gradient.

        Without ``on_weights`` only the one by steps and zones is kept, which takes no memory.
        """
        own, self._quantised = out[self.shares.part], self._placed()
        if self.native and kernels.know(kernel, on_weights) and kernels.take(self.latent, own):
            bits, slopes = kernels.quantise(self.latent, self._quantised, own, kernel)
            if kernel:
                self._cells, self._slopes = None, slopes
        else:
            bits = self._in_chunks(own, kernel, on_weights) if len(own) else torch.zeros(0, dtype=torch.float64)
        self.bits = self.shares.of_all(bits)
        self.complete(out)

    def _in_chunks(self, out: Tensor, kernel: Kernel | None, on_weights: bool) -> Tensor:
        """The same for this rank's part of ŵ (n,), by torch; return bits of its tensors."""
        placed, sizes = self._quantised, [place.stop - place.start for place in self.places.values()]
        reach = torch.stack(torch._foreach_norm(list(torch.split(self.latent, sizes)), float("inf"))).cpu()
        reach *= placed.ratio
        if not bool((reach < kernels.MOST_STEPS).all()):
            raise kernels.too_large("weights are not finite, or beyond 2**20 steps")
        cells = lay_out(reach, placed.zones, CELLS if kernel else 1)
        counts, own = torch.zeros(cells.total, device=self.device), cells.to(self.device)
        ratio, steps, zones = (each.to(self.device) for each in placed[1:])
        for chunk in self._chunks:
            scaled, excess, r = self._scaled(chunk, ratio, zones)
            chunk.decode(scaled, excess, steps, r, out[chunk.rows])
            first = int(cells.base[chunk.tensors.start])
            found = torch.bincount(chunk.cell(own, first, scaled, excess))
            counts[first : first + len(found)] += found
        counts, bins = counts.cpu(), locate(cells, placed.zones)
        if kernel:
            self._cells, self._slopes = cells, entropy_slopes(counts, bins, placed.zones, kernel)
            if not on_weights:
                self._cells, self._slopes = None, self._slopes._replace(code=counts[:0])
        return hard_bits(counts, bins)

    def meter(self, scratch: Tensor) -> Callable[[], Tensor]:
        """Return a function that tells ``bits`` at the steps and zones of its moment, of the weights as they are now.

        ``scratch`` (N,) is for grids that have to round all weights for that.
        """
        known = dict(zip(self.places, each(lambda place: Histogram(self.latent[place]), self.places.values())))
        units = self.unit.tolist()

        def measure() -> Tensor:
            steps, zones = self.steps().tolist(), self.zones().tolist()
            found = [histogram.bits(steps[k] / units[k], zones[k]) for k, histogram in known.items()]
            return self.shares.of_all(torch.tensor(found, dtype=torch.float64, device="cpu"))

        return measure

    @torch.no_grad()
    def gradients(self, values: Tensor, grad: Tensor, multiplier: float, on_weights: bool) -> None:
        """Set ``.grad`` of the three leaves for the loss L + ``multiplier`` · R, with R the soft entropy in bits.

        ``values`` (N,) are ŵ as ``quantise`` wrote them and ``grad`` (N,) is ∂L/∂ŵ there, of which this rank's part is
        looked at, and overwritten: it becomes the gradient of the latents. Where both are one vector, it holds the
        latter, and ŵ is made again.
        """
        grad[self._fixed] = 0
        own, held = grad[self.shares.part], values[self.shares.part]
        unit = self.shares.of_own(self.unit)
        zones, ratio, units = (each.to(self.device) for each in (self._quantised.zones, self._quantised.ratio, unit))
        step_grad, zone_grad = (multiplier * each.to(self.device) for each in self._slopes[1:])
        native = self.native and not on_weights and kernels.take(self.latent, own)
        if native:
            moved, at_zero = kernels.gradients(self.latent, self._quantised, unit, own)
            step_grad += moved
            zone_grad += at_zero / zones
        for chunk in () if native else self._chunks:
            g, unit = own[chunk.rows], chunk.pick(units)
            quantised = held[chunk.rows] if grad is not values else self._again(chunk)
            error = (quantised - self.latent[chunk.rows] * unit).mul_(g)  # g·(ŵ − w)
            g.mul_(unit)
            chunk.add(step_grad, error)
            chunk.add(zone_grad, error.mul_(quantised == 0).div_(chunk.pick(zones)))
            if on_weights:
                g += self._rate_slope(chunk, zones, ratio).mul_(multiplier)
        grad[self._fixed] = 0
        self.latent.grad = own
        step_grad, zone_grad = self.shares.of_all(torch.stack([step_grad, zone_grad]).cpu())
        self.log_step.grad = step_grad * self.tuned
        self.log_zone.grad = zone_grad * self.log_zone.exp() * (self.tuned & self.tunes_zones)

    def _scaled(self, chunk: Chunk, ratio: Tensor, zones: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """w/s, |w|/s − r and r of a chunk, whose steps are in ``ratio`` (K,) to the units of the latents."""
        scaled, r = self.latent[chunk.rows] * chunk.pick(ratio), chunk.pick(zones)
        return scaled, scaled.abs().sub_(r), r

    def _again(self, chunk: Chunk) -> Tensor:
        """ŵ of a chunk as the last ``quantise`` wrote it."""
        ratio, steps, zones = (each.to(self.device) for each in self._quantised[1:])
        scaled, excess, r = self._scaled(chunk, ratio, zones)
        return chunk.decode(scaled, excess, steps, r, excess)

    def _rate_slope(self, chunk: Chunk, zones: Tensor, ratio: Tensor) -> Tensor:
        """The soft entropy's gradient by the latents of a chunk, in bits, as of the last ``quantise`` with a kernel."""
        assert self._cells is not None, "quantise() comes first, and keeps what is asked for here"
        scaled, excess, r = self._scaled(chunk, ratio, zones)
        outer = torch.where(excess >= 0, 1.0, 0.5 / r) * chunk.pick(ratio)
        slopes, first = self._slopes.code.to(self.device), int(self._cells.base[chunk.tensors.start])
        slope = slopes[chunk.cell(self._cells.to(self.device), first, scaled, excess).add_(first)].mul_(outer)
        return torch.copysign(slope, slope * scaled)

    def representations(self, shift: float = 0.0, log_scale: float = 0.0) -> Mapping[str, Grid]:
        """Return the grids by name as they would be written now.

        Codes of tuned tensors get cheaper with a positive ``shift`` (in steps), which moves their rounding boundaries
        outwards, and with a positive ``log_scale``, the logarithm of a factor on their steps. Codes are made when a
        grid is asked for, of the weights as they are then: ranks ask for the same ones, in the same order.
        """
        with torch.no_grad():
            steps, zones = stored_steps(self.steps() * (log_scale * self.tuned).exp()), self.zones()
        make = functools.partial(self._representation, shift=shift)
        settings = enumerate(zip(self.specs, steps, zones, strict=True))
        return Lazy({spec.name: functools.partial(make, k, step, zone) for k, (spec, step, zone) in settings})

    @torch.no_grad()
    def turn(self, shift: float = 0.0, log_scale: float = 0.0) -> None:
        """Change the grids, in place, to what ``representations`` gives with these settings."""
        self.log_step += log_scale * self.tuned
        ratios = (self.unit / self.steps()).tolist()
        for k, place in self.places.items():
            row = self.latent[place]
            torch.copysign(row.abs().sub_(shift * bool(self.tuned[k]) / ratios[k]).clamp_(min=0), row, out=row)

    @torch.no_grad()
    def _representation(self, k: int, step: Tensor, zone: Tensor, shift: float) -> Grid:
        def codes() -> Tensor:
            scaled = self.latent[self.places[k]] * (self.unit[k] / step)
            return torch.copysign(magnitude(scaled.abs() - (zone + shift * self.tuned[k])), scaled)

        return self.specs[k].grid(self.fetch(k, codes), step, zone)
