"""From a size in bytes to steps: a slope by estimates, then one factor on all steps by the size of the packed file."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from noworse.datafree.slope import Choice, Curve, choose
from noworse.errors import TargetMissed
from noworse.representation import pack_step

AIM = 0.997  # of the target, in the middle of what is accepted
LEAST = 0.99
PASSES = 12  # over the whole model
WIDEST = 8.0  # ln of the factor that the search gives up at

Grids = dict[str, tuple[int, int]]  # packed step and edge by name; tensors that are not in it stay as they are


def land(curves: Mapping[str, Curve], target: int, other: float, measure: Callable[[Grids], int]) -> Grids:
    """Steps and edges for which ``measure``, the bytes of the file, is at most ``target`` and at least 99 % of it.

    ``other`` estimates the bytes of all else. A file below 99 % is returned only where every tensor stays as it is.
    TargetMissed where no step is coarse enough.
    """
    choices: dict[str, Choice] = {}
    for _ in range(2):  # the second time with what the first has shown about the rest of the file
        choices = choose(curves, 8 * (AIM * target - other))
        size = measure(_packed(choices))
        if _lands(size, target, _packed(choices)):
            return _packed(choices)
        other = size - sum(choices[name].bits * curve.profile.size for name, curve in curves.items()) / 8
    return _scaled(curves, choices, target, size, measure)


def _scaled(
    curves: Mapping[str, Curve], choices: Mapping[str, Choice], target: int, size: int, measure: Callable[[Grids], int]
) -> Grids:
    """The same with one factor on all steps: regula falsi on its logarithm, kept within what is known."""
    known = {0.0: size}
    weights = sum(curves[name].profile.size for name, choice in choices.items() if choice.step)
    per_unit = max(weights, 1) / (8 * math.log(2))  # bytes saved by a factor of e, at high rates
    for _ in range(PASSES):
        above = [x for x, size in known.items() if size > target]
        below = [x for x, size in known.items() if size <= target]
        if above and below:
            a, b = max(above), min(below)
            share = (known[a] - AIM * target) / max(known[a] - known[b], 1)
            x = a + (b - a) * min(0.9, max(0.1, share))
        else:
            x0 = max(above) if above else min(below)
            x = x0 + min(2.0, max(-2.0, 1.5 * (known[x0] - AIM * target) / per_unit))
        if abs(x) > WIDEST:
            break
        grids = _packed({name: curves[name].scaled(choice, math.exp(x)) for name, choice in choices.items()})
        known[x] = measure(grids)
        if _lands(known[x], target, grids):
            return grids
    found = min(known.values(), key=lambda size: (size > target, abs(size - target)))
    raise TargetMissed(f"no steps give 99 to 100 % of {target:,} bytes; the nearest file has {found:,}", None, b"")


def _lands(size: int, target: int, grids: Grids) -> bool:
    return size <= target and (size >= LEAST * target or not grids)


def _packed(choices: Mapping[str, Choice]) -> Grids:
    return {name: (pack_step(choice.step), choice.edge) for name, choice in choices.items() if choice.step}
