"""The default preset against the official settings of L² with the same iterations: how much smaller at equal loss.

``python -m benchmarks.paper`` compresses every net by the default preset once, and by the ``paper`` preset at a ladder
of ratios; the ratio at which the latter's held-out loss difference equals the former's is interpolated (loss difference
against the logarithm of the ratio). Both have the default's batch size, folded norms, settling and verification; the
paper's coder is a static table for each tensor, ours knows the neighbours of a code.
``--quick`` judges on development images instead of the test set, with a tenth of the iterations.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.table import Row, finish, parser

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


def run(name: str, preset: str, ratio: float, options: Any) -> dict[str, Any]:
    """One compression, in this process."""
    import noworse as nw
    from noworse.tune.presets import PRESETS
    from zoo import fashion_mnist

    case = CASES[name]
    iterations = case.iterations // (10 if options.quick else 1)
    task = fashion_mnist.build(case.net, "development" if options.quick else "test")
    settings = replace(PRESETS[preset], iterations=iterations, batch=PRESETS["default"].batch)
    path = options.folder / f"{case.net}_{preset}_{ratio:.1f}.nwt"
    return json.loads(nw.compress_task(task, path, target=ratio, tolerance=None, options=settings).to_json())  # type: ignore[no-any-return]


def stored(name: str, preset: str, ratio: float, options: Any) -> dict[str, Any]:
    """The same from the folder, or by a new process."""
    at = options.folder / f"{CASES[name].net}_{preset}_{ratio:.1f}{'_quick' if options.quick else ''}.json"
    if options.fresh or not at.exists():
        words = [sys.executable, "-m", "benchmarks.paper", "--one", name, preset, str(ratio)]
        words += ["--folder", str(options.folder)] + ["--quick"] * options.quick
        at.write_text(subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True).stdout)
    return json.loads(at.read_text())  # type: ignore[no-any-return]


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


def rows_of(name: str, options: Any) -> list[Row]:
    """The default's row, those of the ladder, and the gain."""
    case = CASES[name]
    default = stored(name, "default", case.ratio, options)
    loss, kl = (default["verdict"][key] for key in MEASURES)
    rows = [
        Row(f"{name}: default at {default['ratio']:.1f}x, loss difference", loss, "nats"),
        Row(f"{name}: default at {default['ratio']:.1f}x, KL to the original", kl, "nats"),
    ]
    points, divergences = [], []
    for share in LADDER:
        found = stored(name, "paper", round(share * case.ratio, 1), options)
        for measure, into in zip(MEASURES, (points, divergences), strict=True):
            into.append((found["ratio"], found["verdict"][measure]))
        rows.append(Row(f"{name}: paper at {found['ratio']:.1f}x, loss difference", points[-1][1], "nats"))
        rows.append(Row(f"{name}: paper at {found['ratio']:.1f}x, KL to the original", divergences[-1][1], "nats"))
    equal, alike = ratio_at(points, loss), ratio_at(divergences, kl)
    rows.append(Row(f"{name}: paper's ratio at the default's loss", equal, "x"))
    rows.append(Row(f"{name}: default against paper at equal loss", default["ratio"] / equal, "x", f">= {GAIN}"))
    rows.append(Row(f"{name}: default against paper at equal KL", default["ratio"] / alike, "x"))
    return rows


def main() -> None:
    """All nets, or one compression for the program itself."""
    options_of = parser(__doc__.splitlines()[0])
    options_of.add_argument("--only", nargs="+", choices=sorted(CASES), default=list(CASES))
    options_of.add_argument("--folder", type=Path, default=Path("work/paper"))
    options_of.add_argument("--fresh", action="store_true", help="ignore results of earlier runs")
    options_of.add_argument("--one", nargs=3, metavar=("NET", "PRESET", "RATIO"), help="one compression, as JSON")
    options = options_of.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.one:
        name, preset, ratio = options.one
        print(json.dumps(run(name, preset, float(ratio), options)))
        return
    finish([row for name in options.only for row in rows_of(name, options)], options)


if __name__ == "__main__":
    main()
