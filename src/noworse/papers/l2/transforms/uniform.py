"""The paper's "scale" transform: all bins equally wide, zero's too."""

from __future__ import annotations

from noworse.papers.l2.transforms.base import register
from noworse.papers.l2.transforms.deadzone import Deadzone


@register("uniform")
class Uniform(Deadzone):
    """f(k) = k and r = ½."""

    tunes_zone = False
