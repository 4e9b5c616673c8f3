"""Size, held-out loss and time of ``noworse.compress`` on every model of the zoo.

Every case runs in a process of its own (peak memory, threads). All figures are of the decoded file, judged on held-out
samples that no setting was chosen on (10,000 test images for the classifiers). The cases are in ``l2_cases``.
"""

from __future__ import annotations

import json
import resource
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.harness import Row, Run, Section, Suite, main
from benchmarks.suites.l2_cases import CASES, FASHION, FAST, MINILM, Case

TABLES = {"l2": CASES, "fast": FAST}
QUICK = {"iterations": 20}
OVERHEAD_RATIO = 20.0
COUNTING = {MINILM: "<= 40"}  # per cent of tuning that is not the net's passes


def compress_case(table: str, name: str, quick: bool, folder: str) -> dict[str, Any]:
    """Compress one case in this process and return what was measured."""
    import noworse as nw
    from noworse.tune.options import choose

    case = TABLES[table][name]
    task = nw.load_task(case.task)
    base = choose(None, case.preset)
    options = replace(base, **{**case.options, **(QUICK if quick and base.iterations else {})})
    begin = time.monotonic()
    path = Path(folder) / f"{name.replace(' ', '_')}.nwt"
    report = nw.compress_task(task, path, target=case.ratio, tolerance=None, options=options)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {**json.loads(report.to_json()), "seconds": time.monotonic() - begin, "memory": memory}


def share_of_grids(spent: Mapping[str, float]) -> float:
    """Per cent of the seconds of tuning that are not the net's own passes; 0 where nothing was tuned."""
    return 100 * spent["grids"] / max(sum(spent.values()), 1e-9)


def measured_cases(values: Iterable[str]) -> list[str]:
    """The cases that these names of rows are of."""
    return [row.removesuffix(": ratio") for row in values if row.endswith(": ratio")]


def overhead(run: Run) -> list[Row]:
    """ResNet-20 at 20x and batch 64: bytes that are not payload, and the share of the time that is not the net's."""
    import noworse as nw
    from noworse.format import File

    task = nw.load_task(FASHION + "resnet20")
    path = run.folder / "overhead.nwt"
    options = nw.Options(iterations=20 if run.quick else 100, batch=64)
    report = nw.compress_task(task, path, target=OVERHEAD_RATIO, tolerance=None, options=options)
    with File(path) as file:
        shares = file.attribution()
        size = file.size
    rest = sum(shares.values()) - shares["payload"]
    return [
        Row("resnet20 at 20: bytes besides payload", rest, "bytes", f"<= {0.05 * size + 384:.0f}"),
        Row("resnet20 at 20: transform, counter, backward", share_of_grids(report.spent), "% of time", "<= 25"),
        Row("resnet20 at 20: attribution minus file size", abs(sum(shares.values()) - size), "bytes", "<= 0"),
    ]


def rows_of(name: str, case: Case, result: dict[str, Any]) -> list[Row]:
    """The rows of one case."""
    verdict = result["verdict"]
    drop = verdict["metric_original"] - verdict["metric_compressed"]
    worse = -drop if case.rising else drop
    bound = "" if case.bound is None else f"<= {case.bound}"
    rows = [
        Row(f"{name}: file", result["size"], "bytes"),
        Row(f"{name}: ratio", result["ratio"], "x", f">= {int(case.ratio)}"),
        Row(f"{name}: loss difference", verdict["mean_difference"], case.unit),
        Row(f"{name}: its upper bound", verdict["upper_bound"], case.unit, bound),
        Row(f"{name}: metric of the original", verdict["metric_original"], ""),
        Row(f"{name}: metric of the file", verdict["metric_compressed"], ""),
        Row(f"{name}: drop of the metric", worse, "", "" if case.drop is None else f"<= {case.drop}"),
        Row(f"{name}: time", result["seconds"], "s", "" if case.seconds is None else f"<= {case.seconds}"),
        Row(f"{name}: peak memory", result["memory"], "GiB", "" if case.memory is None else f"<= {case.memory}"),
    ]
    if any(result["spent"].values()):
        share, most = share_of_grids(result["spent"]), COUNTING.get(case.task, "")
        rows.append(Row(f"{name}: transform, counter, backward", share, "% of time", most))
    if verdict["changed"] is not None:
        rows.append(Row(f"{name}: changed predictions", 100 * verdict["changed"], "%"))
        rows.append(Row(f"{name}: KL to the original", verdict["mean_kl"], "nats"))
    return rows


def rows_from(table: str, name: str, run: Run) -> list[Row]:
    """The rows of one case of a table of cases, measured in a process of its own."""
    result = run.case(name, compress_case, table, name, run.quick, str(run.folder))
    return rows_of(name, TABLES[table][name], result)


def sections_of(table: str) -> dict[str, Section]:
    """A section for each case of a table."""
    return {name: partial(rows_from, table, name) for name in TABLES[table]}


SUITE = Suite("l2", __doc__, {**sections_of("l2"), "overhead": overhead}, quick=("lenet300", "lenet5", "overhead"))

if __name__ == "__main__":
    main(SUITE)
