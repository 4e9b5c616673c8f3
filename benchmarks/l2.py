"""Size, held-out loss and time of ``noworse.compress`` on every model of the zoo.

``python -m benchmarks.l2 [--quick] [--json FILE] [--check] [--only NAME ...] [--folder work/l2] [--fresh]``

Every case runs in a process of its own (peak memory, threads) and leaves its result in ``--folder``; a run that was cut
off continues there, and ``--fresh`` starts over. All figures are of the decoded file, judged on held-out samples that
no setting was chosen on (10,000 test images for the classifiers). The cases are in ``benchmarks.cases``.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.cases import CASES, FASHION, MINILM, Case
from benchmarks.table import Row, finish, parser

QUICK = {"iterations": 20}
UNAVAILABLE = 77  # exit code of a case whose packages are absent
OVERHEAD_RATIO = 20.0
COUNTING = {MINILM: "<= 40"}  # per cent of tuning that is not the net's passes


def run_case(name: str, case: Case, quick: bool, folder: Path) -> dict[str, Any]:
    """Compress one case in this process and return what was measured."""
    import noworse as nw
    from noworse.tune.presets import PRESETS

    task = nw.load_task(case.task)
    base = PRESETS[case.preset]
    options = replace(base, **{**case.options, **(QUICK if quick and base.iterations else {})})
    begin = time.monotonic()
    path = folder / f"{name.replace(' ', '_')}.nwt"
    report = nw.compress_task(task, path, target=case.ratio, tolerance=None, options=options)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {**json.loads(report.to_json()), "seconds": time.monotonic() - begin, "memory": memory}


def share_of_grids(spent: Mapping[str, float]) -> float:
    """Per cent of the seconds of tuning that are not the net's own passes; 0 where nothing was tuned."""
    return 100 * spent["grids"] / max(sum(spent.values()), 1e-9)


def measured_cases(values: Iterable[str]) -> list[str]:
    """The cases that these names of rows are of."""
    return [row.removesuffix(": ratio") for row in values if row.endswith(": ratio")]


def overhead(folder: Path, quick: bool) -> list[Row]:
    """ResNet-20 at 20x and batch 64: bytes that are not payload, and the share of the time that is not the net's."""
    import noworse as nw
    from noworse.format import File

    task = nw.load_task(FASHION + "resnet20")
    path = folder / "overhead.nwt"
    options = nw.Options(iterations=20 if quick else 100, batch=64)
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


def collect(module: str, options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Results of a module's cases, from the folder or a new process each, without those whose packages are absent."""
    results = {}
    for name in options.only:
        stored = options.folder / f"{name.replace(' ', '_')}{'_quick' if options.quick else ''}.json"
        if options.fresh or not stored.exists():
            words = [sys.executable, "-m", module, "--case", name, "--folder", str(options.folder)]
            done = subprocess.run(words + ["--quick"] * options.quick, stdout=subprocess.PIPE, text=True)
            if done.returncode == UNAVAILABLE:
                print(f"{name}: skipped, its packages are absent", file=sys.stderr)
                continue
            if done.returncode:
                sys.exit(f"{name}: failed, its process ended with {done.returncode}")
            stored.write_text(done.stdout)
        results[name] = json.loads(stored.read_text())
    return results


def measured(
    module: str, summary: str, cases: Mapping[str, Case]
) -> tuple[list[Row], dict[str, dict[str, Any]], argparse.Namespace] | None:
    """Rows, results and options of the command line for a benchmark of cases; None in the process of a single one."""
    options_of = parser(summary)
    options_of.add_argument("--only", nargs="+", choices=sorted(cases), default=list(cases))
    options_of.add_argument("--folder", type=Path, default=Path("work") / module.rpartition(".")[2])
    options_of.add_argument("--fresh", action="store_true", help="ignore results of earlier runs")
    options_of.add_argument("--case", choices=sorted(cases), help=argparse.SUPPRESS)
    options = options_of.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.case:
        from noworse.task.task import TaskUnavailable

        try:
            print(json.dumps(run_case(options.case, cases[options.case], options.quick, options.folder)))
        except TaskUnavailable as error:
            print(error, file=sys.stderr)
            sys.exit(UNAVAILABLE)
        return None
    results = collect(module, options)
    rows = [row for name, result in results.items() for row in rows_of(name, cases[name], result)]
    return rows, results, options


def main() -> None:
    found = measured("benchmarks.l2", __doc__.splitlines()[0], CASES)
    if found is None:
        return
    rows, results, options = found
    if "resnet20" in results:
        rows += overhead(options.folder, options.quick)
    finish(rows, options)


if __name__ == "__main__":
    main()
