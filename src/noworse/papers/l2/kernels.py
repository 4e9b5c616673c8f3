"""L²'s kernels of the counter besides the raised cosine, and its half width δ = (max c − min c)/resolution.

Source: Shi et al., L² compression (ICCV 2023), the differentiable counter.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from noworse.errors import BadInput
from noworse.rate.soft import Kernel
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
