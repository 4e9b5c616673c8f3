"""The default preset against the official settings of L² with the same iterations: how much smaller at equal loss.

Every net is compressed by the default preset once, and by the ``paper`` preset at a ladder of
ratios; the ratio at which the latter's held-out loss difference equals the former's is interpolated (loss difference
against the logarithm of the ratio). Both have the default's batch size, folded norms, settling and verification; the
paper's coder is a static table for each tensor, ours knows the neighbours of a code.
``--quick`` judges on development images instead of the test set, with a tenth of the iterations.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.harness import Row, Run, Suite, main

LADDER = (0.35, 0.5, 0.7, 0.85)  # of the default's ratio
GAIN = 1.5  # must be reached
MEASURES = ("mean_difference", "mean_kl")  # the latter is not moved by the luck of labels


@dataclass(frozen=True)
class Case:
    """A net of the zoo, the default's target, and the iterations of both."""

    net: str
    ratio: float
    iterations: int


CASES = {
    "resnet20": Case("resnet20", 30.0, 1000),
    "vgg_small": Case("vgg_small", 40.0, 500),
    "lenet5": Case("lenet5", 55.0, 2000),
    "vit_tiny": Case("vit_tiny", 16.0, 800),  # loses hardly more than the standard error of that
    "vit_tiny at 22": Case("vit_tiny", 22.0, 800),
}


def compress_case(name: str, preset: str, ratio: float, quick: bool, folder: str) -> dict[str, Any]:
    """One compression, in this process."""
    import noworse as nw
    from noworse.tune.options import choose
    from zoo import fashion_mnist

    case = CASES[name]
    task = fashion_mnist.build(case.net, "development" if quick else "test")
    iterations = case.iterations // (10 if quick else 1)
    settings = replace(choose(None, preset), iterations=iterations, batch=choose(None, "default").batch)
    path = Path(folder) / f"{case.net}_{preset}_{ratio:.1f}.nwt"
    return json.loads(nw.compress_task(task, path, target=ratio, tolerance=None, options=settings).to_json())  # type: ignore[no-any-return]


def ratio_at(points: Sequence[tuple[float, float]], loss: float) -> float:
    """The largest ratio at which a curve through (ratio, loss difference) points stays within ``loss``.

    Between points it is linear in the logarithm of the ratio; the smallest ratio of all where even that loses more (an
    upper bound then), the largest where none does (a lower bound).
    """
    points = sorted(points)
    if points[-1][1] <= loss:
        return points[-1][0]
    for (low, a), (high, b) in reversed(list(pairwise(points))):
        if a <= loss < b:
            share = (loss - a) / (b - a)
            return math.exp(math.log(low) + share * math.log(high / low))
    return points[0][0]


def rows_of(name: str, run: Run) -> Iterator[Row]:
    """The default's rows, those of the ladder, and the gain."""
    case = CASES[name]

    def compressed(preset: str, ratio: float) -> dict[str, Any]:
        key = f"{case.net}_{preset}_{ratio:.1f}"
        return run.case(key, compress_case, name, preset, ratio, run.quick, str(run.folder))  # type: ignore[no-any-return]

    default = compressed("default", case.ratio)
    loss, kl = (default["verdict"][key] for key in MEASURES)
    yield Row(f"{name}: default at {default['ratio']:.1f}x, loss difference", loss, "nats")
    yield Row(f"{name}: default at {default['ratio']:.1f}x, KL to the original", kl, "nats")
    points, divergences = [], []
    for share in LADDER:
        paper = compressed("paper", round(share * case.ratio, 1))
        for measure, into in zip(MEASURES, (points, divergences), strict=True):
            into.append((paper["ratio"], paper["verdict"][measure]))
        yield Row(f"{name}: paper at {paper['ratio']:.1f}x, loss difference", points[-1][1], "nats")
        yield Row(f"{name}: paper at {paper['ratio']:.1f}x, KL to the original", divergences[-1][1], "nats")
    equal, alike = ratio_at(points, loss), ratio_at(divergences, kl)
    yield Row(f"{name}: paper's ratio at the default's loss", equal, "x")
    yield Row(f"{name}: default against paper at equal loss", default["ratio"] / equal, "x", f">= {GAIN}")
    yield Row(f"{name}: default against paper at equal KL", default["ratio"] / alike, "x")


SUITE = Suite("paper", __doc__, {name: partial(rows_of, name) for name in CASES}, quick=("lenet5",))

if __name__ == "__main__":
    main(SUITE)
