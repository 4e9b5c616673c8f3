"""One run of the ablations in a process of its own: ``python -m benchmarks.ablation_run KEY``."""

from __future__ import annotations

import argparse
import copy
import json
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import noworse as nw
from benchmarks.ablation_cases import GROUPS, NETS, Run, runs_of
from noworse.task.task import Task
from zoo import data
from zoo.fashion_mnist import CALIB_BATCH, dev_task

PRUNING_RATE, PRUNING_BATCH = 3e-4, 32  # of Adam, while the weights that are left are tuned
QUICK_ITERATIONS, QUICK_SAMPLES, QUICK_BATCHES = 3, 200, 1  # of tuning, of calibration, of development images


def task_of(run: Run, quick: bool) -> Task:
    """The net, calibration images from the start of the training set, the development images."""
    task = dev_task(run.net)
    images, labels = data.load("train")
    count = min(run.case.samples, QUICK_SAMPLES) if quick else run.case.samples
    calib: list[Any] = list(images[:count].split(CALIB_BATCH))
    augment = task.augment
    if run.case.labelled:
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


def measure(run: Run, quick: bool = False) -> dict[str, Any]:
    """Compress, and judge the file on the development images against the net itself."""
    task = task_of(run, quick)
    options = {**run.options, **({"iterations": min(QUICK_ITERATIONS, run.options["iterations"])} if quick else {})}
    begin = time.monotonic()
    chosen = task
    if run.case.prune is not None:
        steps = QUICK_ITERATIONS if quick else NETS[run.net].options["iterations"]
        chosen = replace(task, model=pruned(task, run.case.prune, steps, run.seed))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.nwt"
        settings = nw.Options.from_json(json.dumps(options))
        report = nw.compress_task(
            chosen, path, target=NETS[run.net].ratio, tolerance=None, options=settings, progress=None
        )
        seconds = time.monotonic() - begin
        verdict = report.verdict if chosen is task else nw.verify(path, task.model, task.loss, task.verify)
    return {
        "net": run.net, "key": run.key, "seed": run.seed, "ratio": report.ratio, "kl": verdict.mean_kl,
        "difference": verdict.mean_difference, "lower": verdict.lower_bound, "upper": verdict.upper_bound,
        "changed": verdict.changed, "seconds": seconds,
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("key")
    options = parser.parse_args()
    torch.set_num_threads(1)
    run = next(run for _, run in runs_of(list(GROUPS)) if run.key == options.key)
    print(json.dumps(measure(run)))


if __name__ == "__main__":
    main()
