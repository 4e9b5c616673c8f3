"""The end of tuning: a file as large as possible yet not above its size."""

from __future__ import annotations

import math
from collections.abc import Mapping

from noworse.errors import BadInput
from noworse.jobs.draft import Draft
from noworse.representation import Representation

AIM, LEAST = 0.996, 0.992  # of the target: where tuning aims, and the least size before the verdict is known
KNOBS = (("shift", 0.25), ("log_scale", 0.5), ("log_scale", 8.0))  # what may be turned at the end, and how far
BISECTIONS = 12


def land(draft: Draft, size: int) -> Mapping[str, Representation]:
    """Return the tensors as they are to be written, in a file as large as possible yet at most ``size`` bytes.

    Tuning ends near the size and settles between its bounds. Only where that fails (after too few iterations, or none)
    are all rounding boundaries shifted alike, or all steps scaled; if even the finest leave the file below the size,
    they are taken. BadInput where even the coarsest are too large.
    """
    least = math.ceil(LEAST * size)
    settled = draft.terms.options.iterations and draft.tuner.settle(least, size)
    if settled or least <= draft.file_size() <= size:
        draft.refine(least, size)
        return draft.items()
    knob = _turned(draft, size)
    return draft.items() if draft.turn(knob, least, size) else draft.items(**knob)


def _turned(draft: Draft, size: int) -> dict[str, float]:
    """The setting of a knob that makes the largest file of at most ``size`` bytes."""
    for knob, reach in KNOBS:
        low, high = {knob: -reach}, {knob: reach}  # too large, small enough
        if draft.file_size(**low) < LEAST * size or draft.file_size(**high) > size:
            continue
        for _ in range(BISECTIONS):
            middle = {knob: 0.5 * (low[knob] + high[knob])}
            measured = draft.file_size(**middle)
            low, high = (middle, high) if measured > size else (low, middle)
            if LEAST * size <= measured <= size:
                break
        return high
    coarsest = draft.file_size(**high)
    if coarsest > size:
        raise BadInput(f"no grid brings the file to {size} bytes: the coarsest found has {coarsest}")
    return low
