"""The paper's "scale" transform: all bins equally wide, zero's too."""

from __future__ import annotations

from noworse.methods.transforms.base import register
from noworse.methods.transforms.deadzone import Deadzone


@register("uniform")
class Uniform(Deadzone):
    """f(k) = k and r = ½."""

    tunes_zone = False
