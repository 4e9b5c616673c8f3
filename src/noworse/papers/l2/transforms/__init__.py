"""The transforms of weights to codes and back, by name: one file each."""

from __future__ import annotations

from noworse.papers.l2.transforms import deadzone, exp, log, multiscale, uniform  # noqa: F401  (they register themselves)
from noworse.papers.l2.transforms.base import TRANSFORMS, Transform, register, stored

__all__ = ["TRANSFORMS", "Transform", "register", "stored"]
