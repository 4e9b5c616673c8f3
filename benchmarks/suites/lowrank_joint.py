"""The sections of ``benchmarks.lowrank`` on files with products, against files of grids alone at equal loss.

Every net is compressed with ``methods="auto"`` once, and on grids alone at a ladder of ratios with the same settings;
the ratio at which the latter's held-out loss difference equals the former's is interpolated. Where grids lose less at
the same ratio the ladder goes on. The same for the divergence to the original, in which labels have no luck.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from benchmarks.harness import Row
from benchmarks.suites.l2_cases import FASTER, NEAREST
from benchmarks.suites.paper import ratio_at
from noworse.jobs.compress import compress_task
from noworse.jobs.report import Report
from noworse.task.task import Task
from noworse.tune.options import Options
from zoo import data

BATCH = 250  # of labelled calibration images
JUDGED = "mean_difference"  # what a verdict is about
MEASURES = {"loss difference": JUDGED, "KL to the original": "mean_kl"}  # the latter: no luck of labels
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


ON_WEIGHTS = {"rate": {"name": "soft", "on_weights": True}}
CASES = {  # settings were chosen on development images
    "lenet5": Case(80.3, {"iterations": 2000, "batch": 64, "plugins": ON_WEIGHTS, **FASTER}, "<= 0.01", REDUNDANT),
    "lenet300": Case(
        100.3, {"iterations": 8000, "batch": 64, "label_weight": 1.0, **NEAREST}, "<= 0.01", REDUNDANT, True
    ),
    "vgg_small": Case(40.3, {"iterations": 700}, "", REDUNDANT),
    "vgg_small at 60": Case(60.3, {"iterations": 800}, "", REDUNDANT),
    "resnet20": Case(24.3, {"iterations": 600}),
}


def compress(task: Task, ratio: float, case: Case, methods: str, quick: bool) -> Report:
    """One file."""
    settings = {**case.options, "methods": methods, **({"iterations": 20} if quick else {})}
    with tempfile.TemporaryDirectory() as folder:
        return compress_task(task, Path(folder) / "a.nwt", target=ratio, tolerance=None, options=Options(**settings))


def rows_of(net: str, case: Case, task: Task, quick: bool) -> list[Row]:
    """Of one net."""
    if case.labelled and not quick:
        pairs = zip(*(part.split(BATCH) for part in data.load("train")), strict=True)
        task = replace(task, calib=list(pairs), augment=None)
    auto = compress(task, case.ratio, case, "auto", quick)
    rows = [
        Row(f"{net}, auto: ratio", auto.ratio, "x", f">= {int(case.ratio)}" if case.bound else ""),
        *_judged(f"{net}, auto", auto, case.bound),
        Row(f"{net}, auto: time", auto.seconds, "s"),
    ]
    rows += [Row(f"{net}, auto: rank of {name}", rank, "") for name, rank in (auto.products or {}).items()]
    rows += [Row(f"{net}, auto: layers by {way}", layers, "") for way, layers in auto.families.items()]
    ladder: list[Report] = []
    for share in LADDER[-1:] if quick else (*LADDER, *BEYOND):
        if share in BEYOND and all(_of(ladder[-1], key) >= _of(auto, key) for key in MEASURES.values()):
            break
        ladder.append(compress(task, share * case.ratio, case, "grids", quick))
        rows += _judged(f"{net}, grids at {ladder[-1].ratio:.1f}x", ladder[-1])
    for kind, key in MEASURES.items():
        points = [(grids.ratio, _of(grids, key)) for grids in ladder]
        size = ratio_at(points, _of(auto, key)) / auto.ratio
        name = f"{net}: size of auto over that of grids at equal {kind.split()[0]}"
        rows.append(Row(name, size, "", f"<= {case.share}" if key == JUDGED else ""))
    return rows


def _of(report: Report, measure: str) -> float:
    return float(getattr(report.verdict, measure))


def _judged(what: str, report: Report, bound: str = "") -> list[Row]:
    rows = [Row(f"{what}: {kind}", _of(report, key), "nats") for kind, key in MEASURES.items()]
    return [*rows, Row(f"{what}: its upper bound", report.verdict.upper_bound, "nats", bound)]
