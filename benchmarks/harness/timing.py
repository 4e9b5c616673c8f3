"""Times of several things that take turns, so that others' work on the machine slows all alike."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping


def rounds(
    contestants: Mapping[str, Callable[[], object]],
    count: int,
    clock: Callable[[], float] = time.perf_counter,
    warmup: int = 1,
) -> dict[str, list[float]]:
    """Seconds of each contestant in each round, after ``warmup`` rounds that are not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for number in range(warmup + count):
        for name, action in contestants.items():
            start = clock()
            action()
            if number >= warmup:
                seconds[name].append(clock() - start)
    return seconds
