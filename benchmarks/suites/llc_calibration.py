"""How much of a loss that directed rounding lowers is left on other images, by the number of images that chose it.

Weights have 8 bits; the inputs of every layer are rounded up or down against the sign of their gradient sum (LLC). The
published method chooses with the labels of the images that it is judged on. Here they are drawn from 10,000 images
that the net was not trained on: half of the test images, and the 5,000 that the zoo holds back. The other half judges.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import Row, Run
from benchmarks.suites.llc_nets import EIGHT, Judge, paper_search
from noworse.papers.llc.bits import gradient_sums
from noworse.task.task import TaskUnavailable
from zoo import data
from zoo.classify import loss

NETS = ("lenet5", "resnet20")
SIZES = (64, 256, 1000, 4000, 10_000)
DRAWS, BATCH, JUDGING = 5, 250, 5000


def pool() -> tuple[Tensor, Tensor]:
    """10,000 images and labels to choose with."""
    try:
        images, labels = data.load("development")
    except FileNotFoundError as error:
        raise TaskUnavailable(str(error)) from error
    more = data.load("test")
    return torch.cat([images, more[0][:-JUDGING]]), torch.cat([labels, more[1][:-JUDGING]])


def rows(run: Run) -> list[Row]:
    """Means over draws, and what lies between draws."""
    images, labels = pool()
    judging = [part[-JUDGING : -JUDGING + 250 if run.quick else None] for part in data.load("test")]
    found = []
    for net in run.few(NETS):
        search = paper_search(net, True)
        eight = search.fixed({site.name: EIGHT for site in search.survey.sites})
        held_out = Judge(search.teacher, _batches(*judging))
        for size in run.few(SIZES):
            seen, unseen = [], []
            draws = 1 if size == len(images) else DRAWS  # all of them are one draw
            for draw in range(draws):
                chosen = torch.randperm(len(images), generator=torch.Generator().manual_seed(draw))[:size]
                batches = _batches(images[chosen], labels[chosen])
                other = copy.copy(search)
                other.__dict__["directions"] = _directions(search.teacher, search.survey.inputs, batches)
                module = other.build(eight)
                seen.append(Judge(search.teacher, batches)(module).mean)
                unseen.append(held_out(module).mean)
            what = f"{net}, directions of {size} images"
            found += [
                Row(f"{what}: loss difference on them", float(np.mean(seen)), "nats"),
                Row(f"{what}: loss difference held out", float(np.mean(unseen)), "nats"),
                Row(f"{what}: deviation of that between draws", float(np.std(unseen)), "nats"),
            ]
    return found


def _batches(images: Tensor, labels: Tensor) -> list[tuple[Tensor, Tensor]]:
    return list(zip(images.split(BATCH), labels.split(BATCH), strict=True))


def _directions(
    teacher: torch.nn.Module, layers: dict[str, object], batches: list[tuple[Tensor, Tensor]]
) -> dict[str, str]:
    totals = dict.fromkeys(layers, 0.0)
    for batch in batches:
        for name, slope in gradient_sums(teacher, layers, lambda batch=batch: loss(teacher, batch)).items():
            totals[name] += slope * len(batch[0])
    return {name: "up" if total < 0 else "down" for name, total in totals.items()}
