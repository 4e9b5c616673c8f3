"""What each part of the method is worth: one setting changed at a time, at equal size, on development images.

``python -m benchmarks.ablations [--quick] [--only GROUP ...] [--workers 2] [--folder work/ablations] [--fresh]
[--known FILE] [--gather] [--json FILE] [--check]``

Every run is a process of one thread and leaves its result in ``--folder``: a run that was cut off continues there, and
``--known docs/ablations.json`` puts what an earlier one stored into it. A whole run writes docs/ablations.json,
docs/ablations.md and its figures; ``--gather`` writes them from what the folder holds and runs nothing. With
``--quick`` they go to the folder instead. Needs the full training set (``python -m zoo.data``).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.ablation_cases import BASELINE, GROUPS, NETS, Run, runs_of
from benchmarks.ablation_report import Results, publish
from benchmarks.ablation_run import measure
from benchmarks.table import Row, finish, parser

DOCS = Path(__file__).parent.parent / "docs"
WITHIN = 0.01  # of the target: where the size has to land


def compute(run: Run, folder: Path, quick: bool) -> dict[str, Any] | None:
    """The result of one run, from the folder or from a new process; None where it failed."""
    stored = folder / f"{run.key}.json"
    if not stored.exists():
        text = json.dumps(measure(run, quick=True)) if quick else _in_process(run)
        if not text:
            return None
        stored.with_suffix(".partial").write_text(text)
        stored.with_suffix(".partial").replace(stored)
        print(f"{run.key}: {json.loads(text)['seconds']:.0f} s", file=sys.stderr)
    found: dict[str, Any] = json.loads(stored.read_text())
    return found


def _in_process(run: Run) -> str:
    """What a process of its own, of one thread, says of a run; nothing where it failed."""
    words = [sys.executable, "-m", "benchmarks.ablation_run", run.key]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=environment)
    if done.returncode:
        print(f"{run.key}: failed, its process ended with {done.returncode}", file=sys.stderr)
    return "" if done.returncode else done.stdout


def collect(names: list[str], folder: Path, quick: bool, workers: int) -> Results:
    """Results of all runs of the named groups by their keys; the program ends where one failed."""
    runs = {run.key: run for _, run in runs_of(names)}
    ordered = [run for run in sorted(runs.values(), key=lambda run: run.seed) if run.seed == 0 or not quick]
    with ThreadPoolExecutor(1 if quick else workers) as pool:
        results = list(pool.map(lambda run: compute(run, folder, quick), ordered))
    failed = [run.key for run, result in zip(ordered, results, strict=True) if result is None]
    if failed:
        sys.exit(f"{len(failed)} of {len(ordered)} runs failed: {', '.join(failed)}")
    return {result["key"]: result for result in results if result is not None}


def gather(folder: Path) -> Results:
    """Results of all runs that the folder holds."""
    stored = {run.key: folder / f"{run.key}.json" for _, run in runs_of(list(GROUPS))}
    return {key: json.loads(path.read_text()) for key, path in stored.items() if path.exists()}


def put_known(known: Path, folder: Path) -> None:
    """Leave results of an earlier run in the folder, where it has none of its own."""
    for result in json.loads(known.read_text()):
        stored = folder / f"{result['key']}.json"
        if not stored.exists():
            stored.write_text(json.dumps(result))


def rows_of(results: Results) -> list[Row]:
    """How well sizes land over all runs, and the KL of each baseline."""
    misses = [abs(1 - result["ratio"] / NETS[result["net"]].ratio) for result in results.values()]
    rows = [Row("ablations: largest deviation of a size from its target", 100 * max(misses), "%", "<= 1")]
    for net, described in NETS.items():
        found = [results[key]["kl"] for key in (Run(net, BASELINE, s).key for s in range(3)) if key in results]
        if found:
            name = f"ablations: KL of the baseline, {described.title} at {described.ratio:g}x"
            rows.append(Row(name, sum(found) / len(found), "nats"))
    seconds = sum(result["seconds"] for result in results.values())
    return [*rows, Row("ablations: seconds of all runs", seconds, "s")]


def main() -> None:
    options_of = parser(__doc__.splitlines()[0])
    options_of.add_argument("--only", nargs="+", choices=list(GROUPS), default=list(GROUPS))
    options_of.add_argument("--folder", type=Path, default=Path("work/ablations"))
    options_of.add_argument("--workers", type=int, default=2)
    options_of.add_argument("--fresh", action="store_true", help="ignore results of earlier runs")
    options_of.add_argument("--known", type=Path, help="take results of this docs/ablations.json as done")
    options_of.add_argument("--gather", action="store_true", help="write the document of what is done, run nothing")
    options: argparse.Namespace = options_of.parse_args()
    folder = options.folder / "quick" if options.quick else options.folder
    folder.mkdir(parents=True, exist_ok=True)
    for stored in folder.glob("*.json") if options.fresh else ():
        stored.unlink()
    if options.known:
        put_known(options.known, folder)
    results = gather(folder) if options.gather else collect(options.only, folder, options.quick, options.workers)
    whole = not options.quick and (options.gather or options.only == list(GROUPS))
    place = DOCS if whole else folder / "report"
    place.mkdir(exist_ok=True)
    lines = ",\n".join(json.dumps(results[key]) for key in sorted(results))
    (place / "ablations.json").write_text(f"[\n{lines}\n]\n")
    publish(results, place)
    print(f"written: {place / 'ablations.md'}", file=sys.stderr)
    finish(rows_of(results), options)


if __name__ == "__main__":
    main()
