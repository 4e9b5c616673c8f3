"""The differentiable counter: a relaxed histogram over all integer bins of whole tensors, and its entropy's gradient.

The formulas are in docs/method.md, "The counter". Weights are counted once in *cells*, 1/32 of a code wide (up to 1/4
in tensors of more than 256 bins) and aligned with the bin boundaries; all else happens on the cells. Hard counts are
exact, since cells per code are a power of two; relaxed ones are those of weights moved by at most half a cell, and
serve for gradients alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from noworse.rate.soft import LARGEST_DELTA, Kernel

DENSE = 1 << 16  # codes of a smaller range are counted without sorting


def segment_entropy(counts: Tensor, owner: Tensor) -> Tensor:
    """Return the ideal order-0 code lengths n·H in bits (K,), float64, of K sources, from ``counts`` of symbols (M,).

    ``owner`` (M,) int64, the source of each symbol, is sorted and names every source at least once.
    """
    zeros = torch.zeros(int(owner[-1]) + 1, dtype=torch.float64, device=counts.device)
    totals = zeros.index_add(0, owner, counts.double())
    parts = zeros.index_add(0, owner, torch.xlogy(counts.double(), counts.double()))
    return (torch.xlogy(totals, totals) - parts).clamp_(min=0) / math.log(2)


def code_bits(codes: Tensor) -> float:
    """Return the ideal order-0 code length n·H in bits of whole numbers of any shape and dtype."""
    low, high = int(codes.min()), int(codes.max())
    few = high - low < DENSE
    counts = torch.bincount(codes.flatten().long() - low) if few else torch.unique(codes, return_counts=True)[1]
    return float(segment_entropy(counts.cpu(), torch.zeros(len(counts), dtype=torch.long, device="cpu")))


CELLS = 32  # per code unit
FEWEST, FINE = 4, 256  # cells per code unit of tensors with far more bins than FINE, where bins themselves are narrow


@dataclass(frozen=True)
class Cells:
    """The cells of K tensors, one after the other, first those of the weights >= 0, then those of the negative ones.

    A weight with x = |w|/s − r lies in cell base + [w < 0]·width + zero + floor(x·resolution).
    """

    base: Tensor  # (K,) the first cell of each tensor
    width: Tensor  # (K,) the cells of one sign
    zero: Tensor  # (K,) those below the zero bin's edge
    total: int
    resolution: Tensor  # (K,) cells per code unit
    bins: Tensor  # (K,) bins of one sign besides the zero bin, the empty outermost one included

    def to(self, device: torch.device) -> Cells:
        """Return the same cells with their numbers on a device."""
        base, width, zero, resolution, bins = (
            each.to(device) for each in (self.base, self.width, self.zero, self.resolution, self.bins)
        )
        return Cells(base, width, zero, self.total, resolution, bins)


def lay_out(reach: Tensor, zones: Tensor, finest: int = CELLS) -> Cells:
    """Return cells for tensors whose largest |w|/s are ``reach`` (K,), with zero bins of half widths ``zones`` (K,).

    There are ``finest`` cells per code unit, and fewer in tensors of very many bins, to bound their number.
    """
    bins = ((reach - zones).clamp(min=0).floor() + 2).long()
    wanted = (finest * FINE // bins).clamp(min=min(FEWEST, finest), max=finest)
    resolution = wanted.double().log2().floor().exp2().long()
    zero = (zones * resolution).ceil().long() + 1
    width = zero + bins * resolution
    ends = (2 * width).cumsum(0)
    return Cells(ends - 2 * width, width, zero, int(ends[-1]), resolution, bins)


@dataclass(frozen=True)
class Bins:
    """For every cell (M,): its tensor, its centre t = |w|/s, magnitude q, sign, and the bin of its codes.

    The bins of a tensor are those of its magnitudes -bins-1 .. bins+1; ``owner`` tells the tensor of each bin.
    """

    tensor: Tensor
    t: Tensor
    q: Tensor
    sign: Tensor
    bin: Tensor
    owner: Tensor


def locate(cells: Cells, zones: Tensor) -> Bins:
    """Return where every cell lies, for zero bins of half widths ``zones`` (K,)."""
    tensors = torch.arange(len(zones), device=zones.device)
    tensor = torch.repeat_interleave(tensors, 2 * cells.width)
    place = torch.arange(cells.total, device=zones.device) - cells.base[tensor]
    width = cells.width[tensor]
    negative = place >= width
    place -= negative * width + cells.zero[tensor]
    resolution = cells.resolution[tensor]
    t = ((place + 0.5) / resolution + zones[tensor]).clamp_(min=0)
    q = (place.div(resolution, rounding_mode="floor") + 1).clamp_(min=0)
    sign = 1 - 2 * negative.long()
    sizes = 2 * cells.bins + 3
    middle = sizes.cumsum(0) - sizes + cells.bins + 1
    return Bins(tensor, t, q, sign, middle[tensor] + sign * q, torch.repeat_interleave(tensors, sizes))


def hard_bits(counts: Tensor, bins: Bins) -> Tensor:
    """Return the ideal code length n·H in bits (K,), float64, of the hard codes, from counts per cell (M,)."""
    hard = torch.zeros_like(bins.owner, dtype=torch.float64).index_add_(0, bins.bin, counts.double())
    return segment_entropy(hard, bins.owner)


def boundary(t: Tensor, q: Tensor, r: Tensor | float) -> tuple[Tensor, Tensor]:
    """Return the distance in code units from |c| to the nearest bin boundary, and the step (±1) to the bin behind it.

    t = |w|/s and magnitudes q of any one shape; r broadcasts. The zero bin has one boundary, at |c| = 1/2.
    """
    above = t - r - (q - 1)  # distance to the lower boundary of bins q >= 1, in [0, 1)
    zero = q == 0
    distance = torch.where(zero, 0.5 - t / (2 * r), torch.minimum(above, 1 - above))
    return distance, ((above >= 0.5) | zero).long() * 2 - 1


class Slopes(NamedTuple):
    """Gradient of the soft entropy in bits."""

    code: Tensor  # (M,) by |c| of a weight in each cell
    log_step: Tensor  # (K,) by ln s
    zone: Tensor  # (K,) by r


def entropy_slopes(counts: Tensor, bins: Bins, zones: Tensor, kernel: Kernel) -> Slopes:
    """Return the gradient of the soft entropy of all tensors, from counts per cell (M,) and the zones (K,)."""
    r, zero = zones[bins.tensor], bins.q == 0
    slope = _slopes(counts, bins, r, kernel)
    lever = torch.where(zero, bins.t / (2 * r), bins.t)  # −∂|c|/∂ln s
    pull = counts * slope
    by_step = torch.zeros_like(zones).index_add_(0, bins.tensor, -pull * lever)
    by_zone = torch.zeros_like(zones).index_add_(0, bins.tensor, torch.where(zero, -pull * lever / r, -pull))
    return Slopes(slope, by_step, by_zone)


def _slopes(counts: Tensor, bins: Bins, r: Tensor, kernel: Kernel) -> Tensor:
    """∂R/∂|c| of a weight in each cell, whose zero bins have half widths r."""
    codes = bins.sign * torch.where(bins.q == 0, bins.t / (2 * r), bins.t - r + 0.5)
    widths = kernel.width(lambda: _extents(counts, bins, codes))
    if isinstance(widths, float):
        return _near(counts, bins, r, kernel, widths)
    per_cell, widest = widths[bins.tensor], float(widths.max())
    if widest <= LARGEST_DELTA:
        return _near(counts, bins, r, kernel, per_cell)
    return bins.sign * _far(counts, bins, codes, kernel, per_cell, math.ceil(widest + 0.5))


def _near(counts: Tensor, bins: Bins, r: Tensor, kernel: Kernel, delta: Tensor | float) -> Tensor:
    """The same for kernels that reach no further than the nearest boundary."""
    distance, outward = boundary(bins.t, bins.q.float(), r)
    u = distance / delta
    there = bins.bin + bins.sign * outward
    share = counts * kernel.share(u)
    soft = counts.new_zeros(len(bins.owner)).index_add_(0, bins.bin, counts - share).index_add_(0, there, share)
    log_soft = soft.clamp(min=1e-6).log2()
    return kernel.density(u) / delta * (log_soft[bins.bin] - log_soft[there]) * outward


def _extents(counts: Tensor, bins: Bins, codes: Tensor) -> Tensor:
    """Largest less smallest code of each tensor (K,), to half a cell."""
    seen, zeros = counts > 0, counts.new_zeros(int(bins.tensor[-1]) + 1)
    ends = (zeros.scatter_reduce(0, bins.tensor[seen], codes[seen], e, include_self=False) for e in ("amax", "amin"))
    return torch.sub(*ends)


def _far(counts: Tensor, bins: Bins, codes: Tensor, kernel: Kernel, delta: Tensor, reach: int) -> Tensor:
    """∂R/∂c for kernels that reach ``reach`` boundaries to either side: every boundary adds to it the density of the
    kernel there times the difference of log2 h across it.
    """
    tensors = int(bins.tensor[-1]) + 1
    places = bins.bin + 2 * reach * bins.tensor + reach  # every tensor's bins get a margin
    soft = counts.new_zeros(len(bins.owner) + 2 * reach * tensors)
    lower = (bins.sign * bins.q - 0.5 - codes) / delta  # of the code's own bin, from the code, in δ
    below = kernel.step(lower - reach / delta)
    for offset in range(-reach, reach + 1):
        above = kernel.step(lower + (offset + 1) / delta)
        soft.index_add_(0, places + offset, counts * (above - below))
        below = above
    log_soft = soft.clamp(min=1e-6).log2()
    slope = torch.zeros_like(codes)
    for offset in range(1 - reach, reach + 1):
        density = kernel.density((lower + offset / delta).abs()) / delta
        slope += density * (log_soft[places + offset - 1] - log_soft[places + offset])
    return slope
