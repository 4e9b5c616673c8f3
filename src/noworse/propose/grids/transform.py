"""What all transforms share: codes and values around a curve f, with a zero bin of its own width.

T, T⁻¹, z and r are those of docs/method.md; derivatives are autograd's. ``magnitude`` and ``decode`` are the straight
line's round(T) and T⁻¹ on their own. A new transform is one class with f and f⁻¹ on a curve that the file knows.

Source: Shi et al., L² compression (ICCV 2023), the unified weight transformation, here with r = e/s.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from noworse.representation.columns import MAX_STEP, unpack_step

SMALLEST, LARGEST = 1e-30, unpack_step(MAX_STEP)  # parameters of curves
LINE = ("curve", "start", "shape", "points", "inverse", "code", "decode")  # what makes a transform the straight line


class Transform(ABC):
    """One family of transforms; ``curve`` is its name in the file, ``tunes_zone`` whether r is more than ½ fixed.

    ``start`` are the initial values of its trained parameters, logarithms of quantities relative to the tensor's
    largest magnitude or to its step.
    """

    curve: ClassVar[str]
    tunes_zone: ClassVar[bool] = False
    start: ClassVar[tuple[float, ...]] = ()

    @property
    def straight(self) -> bool:
        """Whether this is the straight line that fast grids and compensated rounding know, with no code of its own."""
        return all(getattr(type(self), name) is getattr(Deadzone, name) for name in LINE)

    def shape(self, trained: Tensor, step: Tensor, largest: float) -> Tensor:
        """Return the curve's parameters as the file has them, from the ``trained`` ones (P,): the same by default."""
        return trained

    @abstractmethod
    def points(self, k: Tensor, shape: Tensor) -> Tensor:
        """Return f(k) for k >= 0 of any shape, in steps; differentiable."""

    @abstractmethod
    def inverse(self, x: Tensor, shape: Tensor) -> Tensor:
        """Return f⁻¹(x) for x >= 0 in steps."""

    def code(self, t: Tensor, r: Tensor, shape: Tensor) -> Tensor:
        """Return |c| = T(|w|) for t = |w|/s."""
        half = self.points(torch.full_like(r, 0.5), shape)
        z = half + (r - 0.5)
        inside = t <= z
        return self.inverse(torch.where(inside, t * (half / z), (t - (r - 0.5)).clamp(min=0)), shape)

    def decode(self, q: Tensor, r: Tensor, shape: Tensor) -> Tensor:
        """Return |ŵ|/s = T⁻¹(|q|) for |q| of any shape."""
        half = self.points(torch.full_like(r, 0.5), shape)
        points = self.points(q, shape)
        return torch.where(q <= 0.5, points * ((half + (r - 0.5)) / half), points + (r - 0.5))


class Deadzone(Transform):
    """f(k) = k with a zero bin whose width is trained, which prunes and quantises at once: L²'s "edgescale"."""

    curve, tunes_zone = "linear", True

    def points(self, k: Tensor, shape: Tensor) -> Tensor:
        """Return f(k) = k."""
        return k

    def inverse(self, x: Tensor, shape: Tensor) -> Tensor:
        """Return f⁻¹(x) = x."""
        return x


class Uniform(Deadzone):
    """f(k) = k and r = ½, all bins equally wide: L²'s "scale"."""

    tunes_zone = False


def magnitude(excess: Tensor) -> Tensor:
    """Return |q| on the straight line from t − r (any shape): 0 inside the zero bin, round(t − r + 1/2) outside."""
    return excess.floor().add_(1).clamp_(min=0)


def decode(q: Tensor, r: Tensor | float) -> Tensor:
    """Return |ŵ|/s on the straight line for magnitudes q >= 0; r broadcasts against q."""
    return (q + (r - 0.5)).mul_(q > 0)


def stored_steps(steps: Tensor) -> Tensor:
    """Return the nearest step sizes that a file can hold (representation/columns.py), float32 of any shape."""
    return ((steps.view(torch.int32) + (1 << 14)) >> 15 << 15).view(torch.float32)


def stored(values: Tensor) -> Tensor:
    """Return positive ``values`` as the file holds them; the gradient passes the rounding."""
    bounded = values.clamp(SMALLEST, LARGEST)
    return bounded + (stored_steps(bounded.detach()) - bounded).detach()
