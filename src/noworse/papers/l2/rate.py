"""The rate estimate of the official L² code, for comparison and for the ``paper`` preset; the kernels of both.

The relaxed cumulative count is F(x) = Σ_j K((x − c_j)/δ) with δ = (max c − min c)/resolution, and every weight's hard
symbol is scored with it: R = N · mean_i −log2 [(F(q_i+½) − F(q_i−½))/n]. Gradients reach the codes in two ways: as the
samples c_j, and straight through the rounding of the queries q_i. Tensors of more than 16,384 weights are estimated
from n = N/128 of them, drawn at random. It is biased where rate/counter.py is not (docs/method.md). Terms that are not
finite are left out.

Source: Shi et al., L² compression (ICCV 2023), and ModelTC/L2_Compression.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from noworse.errors import BadInput
from noworse.rate.soft import Kernel, Rate, relaxed_counts
from noworse.tune import seams

RESOLUTIONS = (16, 4096)
NARROWEST = 1e-3  # code units


class Linear(Kernel):
    """A box, L²'s "lin"."""

    def share(self, u: Tensor) -> Tensor:
        """Return ½(1 − u)."""
        return 0.5 - 0.5 * u.clamp(max=1)

    def density(self, u: Tensor) -> Tensor:
        """Return ½."""
        return 0.5 * (u < 1)


class Triangle(Kernel):
    """A hat, L²'s "tri"."""

    def share(self, u: Tensor) -> Tensor:
        """Return ½(1 − u)²."""
        return 0.5 * (1 - u.clamp(max=1)).square()

    def density(self, u: Tensor) -> Tensor:
        """Return 1 − u."""
        return 1 - u.clamp(max=1)


@dataclass(frozen=True)
class RangeKernel(Kernel):
    """The kernel ``of`` another name, with the range of a tensor's codes divided by ``resolution`` as its half width.

    BadInput for an unknown kernel, and for a resolution that is not in [16, 4096].
    """

    resolution: int = 64
    of: str = "cos"

    def __post_init__(self) -> None:
        low, high = RESOLUTIONS
        if not low <= self.resolution <= high:
            raise BadInput(f"a kernel of resolution {self.resolution!r}: expected {low} to {high}")
        _ = self.kernel

    @functools.cached_property
    def kernel(self) -> Kernel:
        """The other kernel."""
        made: Kernel = seams.made("kernel", self.of)
        return made

    def share(self, u: Tensor) -> Tensor:
        """Return K(−u) of the other kernel."""
        return self.kernel.share(u)

    def density(self, u: Tensor) -> Tensor:
        """Return dK/du of the other kernel."""
        return self.kernel.density(u)

    def width(self, extents: Callable[[], Tensor]) -> Tensor:
        """Return δ of each tensor (K,)."""
        return (extents() / self.resolution).clamp(min=NARROWEST)


LARGEST_WHOLE = 16_384  # weights of a tensor that is not sampled
SHARE = 128


@dataclass(frozen=True)
class Official(Rate):
    """The estimate; ``sampled=False`` takes all weights of large tensors, too. A kernel's own width is not used."""

    resolution: int = 64
    sampled: bool = True

    def bits(self, codes: Tensor, kernel: Kernel) -> Tensor:
        """Return R of codes (N,), differentiable, with samples from torch's own generator."""
        total = len(codes)
        if self.sampled and total > LARGEST_WHOLE:
            codes = codes[torch.randint(total, (total // SHARE,), device=codes.device)]
        extent = float(codes.detach().max() - codes.detach().min())
        if extent == 0:
            return 0.0 * codes.sum()  # one symbol costs nothing
        # F(q+½) − F(q−½) is what the relaxed histogram has in the bin of q
        counts, bins, density = relaxed_counts(codes, kernel, extent / self.resolution)
        slope = density[bins + 1] - density[bins]
        mass = counts[bins] + slope * (codes - codes.detach())  # zero, with the gradient of the queries
        lengths = -(mass / len(codes)).log2()
        return total * lengths[torch.isfinite(lengths.detach())].mean()
