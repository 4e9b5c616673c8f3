"""The sections of ``benchmarks.lowrank`` on files with products, against files of grids alone at equal loss.

Every net is compressed with ``methods="auto"`` once, and on grids alone at a ladder of ratios with the same settings;
the ratio at which the latter's held-out loss difference equals the former's is interpolated. Where grids lose less at
the same ratio the ladder goes on.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.paper import ratio_at
from benchmarks.table import Row
from noworse.compress import compress_task
from noworse.options import Options
from noworse.report import Report
from noworse.task import Task
from zoo import data

BATCH = 250  # of labelled calibration images
LADDER = (0.6, 0.8, 1.0)  # of the ratio of products
BEYOND = (1.2, 1.5)  # the same, where grids are not behind yet
REDUNDANT, EVER = 0.8, 1.01  # most that their file may have, as a share of the grids' file of equal loss


@dataclass(frozen=True)
class Case:
    """How far a net is compressed and how, what bound must be met there, and the share (see above).

    ``labelled``: calib is the whole training set with its labels, without blends, instead of 4,000 images without.
    """

    ratio: float
    options: dict[str, Any]
    bound: str = ""
    share: float = EVER
    labelled: bool = False


CASES = {  # settings were chosen on development images
    "lenet5": Case(80.3, {"iterations": 2000, "batch": 64, "rate_on_weights": True}, "<= 0.01", REDUNDANT),
    "lenet300": Case(60.3, {"iterations": 8000, "batch": 64, "label_weight": 1.0}, "<= 0.01", REDUNDANT, True),
    "vgg_small": Case(40.3, {"iterations": 700}, "", REDUNDANT),
    "vgg_small at 60": Case(60.3, {"iterations": 800}, "", REDUNDANT),
    "resnet20": Case(24.3, {"iterations": 600}),
}


def compress(task: Task, ratio: float, case: Case, methods: str, quick: bool) -> Report:
    """One file."""
    settings = {**case.options, "methods": methods, **({"iterations": 20} if quick else {})}
    with tempfile.TemporaryDirectory() as folder:
        return compress_task(task, Path(folder) / "a.nwt", target=ratio, options=Options(**settings))


def rows_of(net: str, case: Case, task: Task, quick: bool) -> list[Row]:
    """Of one net."""
    if case.labelled and not quick:
        pairs = zip(*(part.split(BATCH) for part in data.load("train")), strict=True)
        task = replace(task, calib=list(pairs), augment=None)
    auto = compress(task, case.ratio, case, "auto", quick)
    loss = auto.verdict.mean_difference
    rows = [
        Row(f"{net}, auto: ratio", auto.ratio, "x", f">= {int(case.ratio)}" if case.bound else ""),
        Row(f"{net}, auto: loss difference", loss, "nats"),
        Row(f"{net}, auto: its upper bound", auto.verdict.upper_bound, "nats", case.bound),
        Row(f"{net}, auto: time", auto.seconds, "s"),
    ]
    rows += [Row(f"{net}, auto: rank of {name}", rank, "") for name, rank in (auto.products or {}).items()]
    rows += [Row(f"{net}, auto: layers by {way}", layers, "") for way, layers in auto.families.items()]
    points: list[tuple[float, float]] = []
    for share in LADDER[-1:] if quick else (*LADDER, *BEYOND):
        if share in BEYOND and points[-1][1] >= loss:
            break
        grids = compress(task, share * case.ratio, case, "grids", quick)
        points.append((grids.ratio, grids.verdict.mean_difference))
        what = f"{net}, grids at {grids.ratio:.1f}x"
        rows.append(Row(f"{what}: loss difference", points[-1][1], "nats"))
        rows.append(Row(f"{what}: its upper bound", grids.verdict.upper_bound, "nats"))
    size = ratio_at(points, loss) / auto.ratio
    rows.append(Row(f"{net}: size of auto over that of grids at equal loss", size, "", f"<= {case.share}"))
    return rows
