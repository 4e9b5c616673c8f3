"""What each part of the method is worth: one setting changed at a time, at equal size, on development images.

Every compression runs in a process of one thread. ``--known FILE`` takes those whose rows the file holds as done (for
instance benchmarks/results/ablations.json, to add cases to a group). Needs the full training set
(``python -m zoo.data``).
"""

from __future__ import annotations

import copy
import json
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import noworse as nw
from benchmarks.harness import Row, Run, Suite, main
from benchmarks.harness.row import read
from benchmarks.suites.ablation_cases import GROUPS, NETS, Trial, trials_of
from noworse.task.task import Task
from zoo import data
from zoo.fashion_mnist import CALIB_BATCH, dev_task

PRUNING_RATE, PRUNING_BATCH = 3e-4, 32  # of Adam, while the weights that are left are tuned
QUICK_ITERATIONS, QUICK_SAMPLES, QUICK_BATCHES = 3, 200, 1  # of tuning, of calibration, of development images
MEASURES = {  # how rows end, and their units
    "ratio": ("ratio", "x"),
    "kl": ("KL to the original", "nats"),
    "difference": ("loss difference", "nats"),
    "lower": ("its lower bound", "nats"),
    "upper": ("its upper bound", "nats"),
    "changed": ("changed predictions", "share"),
    "seconds": ("time", "s"),
}
Results = Mapping[str, Mapping[str, float]]  # MEASURES by the keys of trials


def task_of(trial: Trial, quick: bool) -> Task:
    """The net, calibration images from the start of the training set, the development images."""
    task = dev_task(trial.net)
    images, labels = data.load("train")
    count = min(trial.case.samples, QUICK_SAMPLES) if quick else trial.case.samples
    calib: list[Any] = list(images[:count].split(CALIB_BATCH))
    augment = task.augment
    if trial.case.labelled:
        calib = list(zip(calib, labels[:count].split(CALIB_BATCH), strict=True))
        blend: Any = task.augment
        augment = lambda batch: (blend(batch[0]), batch[1])  # noqa: E731
    judging = list(task.verify)[: QUICK_BATCHES if quick else None]
    return replace(task, calib=calib, verify=judging, augment=augment, metric=None)


def pruned(task: Task, share: float, iterations: int, seed: int) -> nn.Module:
    """A copy of the net without its smallest weights (all layers by one threshold), the others tuned to its outputs."""
    model = copy.deepcopy(task.model)
    weights = [p for p in model.parameters() if p.dim() > 1]
    threshold = torch.cat([w.detach().abs().flatten() for w in weights]).quantile(share)
    masks = [(w.detach().abs() > threshold).float() for w in weights]
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    images: Tensor = torch.cat(list(task.calib))  # type: ignore[arg-type]
    optimiser = torch.optim.Adam(model.parameters(), PRUNING_RATE)
    for _ in range(iterations):
        batch: Any = images[torch.randint(len(images), (PRUNING_BATCH,), generator=generator)]
        batch = task.augment(batch) if task.augment else batch
        for w, mask in zip(weights, masks, strict=True):
            w.data *= mask
        with torch.no_grad():
            wanted = F.log_softmax(task.model(batch), -1)
        optimiser.zero_grad()
        F.kl_div(F.log_softmax(model(batch), -1), wanted, reduction="batchmean", log_target=True).backward()
        optimiser.step()
    for w, mask in zip(weights, masks, strict=True):
        w.data *= mask
    return model.eval()


def measure(group: str, key: str, quick: bool) -> dict[str, Any]:
    """Compress, and judge the file on the development images against the net itself."""
    torch.set_num_threads(1)
    trial = trials_of(group)[key]
    task = task_of(trial, quick)
    options = {**trial.options, **({"iterations": min(QUICK_ITERATIONS, trial.options["iterations"])} if quick else {})}
    begin = time.monotonic()
    chosen = task
    if trial.case.prune is not None:
        steps = QUICK_ITERATIONS if quick else NETS[trial.net].options["iterations"]
        chosen = replace(task, model=pruned(task, trial.case.prune, steps, trial.seed))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.nwt"
        settings = nw.Options.from_json(json.dumps(options))
        ratio = NETS[trial.net].ratio
        report = nw.compress_task(chosen, path, target=ratio, tolerance=None, options=settings, progress=None)
        seconds = time.monotonic() - begin
        verdict = report.verdict if chosen is task else nw.verify(path, task.model, task.loss, task.verify)
    return {
        "ratio": report.ratio, "kl": verdict.mean_kl,
        "difference": verdict.mean_difference, "lower": verdict.lower_bound, "upper": verdict.upper_bound,
        "changed": verdict.changed, "seconds": seconds,
    }  # fmt: skip


def rows_of(group: str, run: Run) -> Iterator[Row]:
    """The rows of all trials of a group."""
    trials = {key: trial for key, trial in trials_of(group).items() if trial.seed == 0 or not run.quick}
    known = results_of(read(run.options.known)) if run.options.known else {}
    missing = [key for key in trials if len(known.get(key, ())) < len(MEASURES)]
    arguments = {key: (group, key, run.quick) for key in missing}
    measured = dict(zip(missing, run.cases(measure, arguments, {"OMP_NUM_THREADS": "1"}), strict=True))
    results = {key: measured.get(key) or known[key] for key in trials}
    for key, result in results.items():
        for what, (end, unit) in MEASURES.items():
            yield Row(f"{key}: {end}", result[what], unit)
    miss = max(abs(1 - result["ratio"] / NETS[trials[key].net].ratio) for key, result in results.items())
    yield Row(f"{group}: largest deviation of a size from its target", 100 * miss, "%", "<= 1")


def results_of(rows: Sequence[Row]) -> Results:
    """What rows say of each trial."""
    names = {end: measure for measure, (end, _) in MEASURES.items()}
    results: dict[str, dict[str, float]] = {}
    for row in rows:
        key, _, end = row.name.rpartition(": ")
        if end in names:
            results.setdefault(key, {})[names[end]] = row.value
    return results


SUITE = Suite(
    "ablations",
    __doc__,
    {group: partial(rows_of, group) for group in GROUPS},
    quick=("entropy",),
    arguments=lambda parser: parser.add_argument("--known", type=Path, help="take trials that this file holds as done"),
)

if __name__ == "__main__":
    main(SUITE)
