"""How far Taylor expansions of the zoo's losses reach: the neighbourhood part of ``benchmarks.llc``.

LLC's Table 1 and Figure 1 redone, in float64. Slopes are fitted to the mean over samples of |actual − predicted|, for
noise up to 1e-2. ``--folder`` gets a table, a figure and all numbers of every net.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from benchmarks.harness import Row, Run, Suite, main
from benchmarks.harness.page import ROOT
from noworse.sensitivity.curves import Neighborhood, NoiseCurve
from noworse.sensitivity.neighborhood import neighborhood
from noworse.task import data
from noworse.task.task import Task, load_task
from zoo import data as images
from zoo import fashion_mnist
from zoo.classify import loss

FASHION = ("lenet300", "lenet5", "resnet20", "vgg_small", "mobilenetv2", "vit_tiny", "hybrid")
OTHERS = ("language.py:char_gpt", "detection.py:detector", "graph.py:gcn", "minilm.py:minilm")
NETS = ("tanh_mlp", *FASHION, *OTHERS)
LARGE = ("minilm.py:minilm",)  # on few samples
SMOOTH = ("vit_tiny", "tanh_mlp", "language.py:char_gpt", *LARGE)  # nets without kinks
ALONE = ("tanh_mlp", "lenet300", "lenet5", "graph.py:gcn")  # nets of few layers, each of which is moved alone, too
SAMPLES, FEW = 48, 8
PAPER_SIZES = (1e-1, 8e-2, 1e-2, 1e-3, 1e-4)  # the rows of LLC's Table 1
SIZES = (1e-1, 8e-2, 3e-2, 1e-2, 3e-3, 1e-3, 3e-4, 1e-4)
EPOCHS = 5


def tanh_mlp() -> Task:
    """A tanh net of 784-64-64-10, trained for a few epochs on the embedded training images."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 10))
    pictures, labels = images.load("calib")
    optimizer = torch.optim.Adam(model.parameters(), 2e-3)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(pictures)).split(100):
            optimizer.zero_grad()
            F.cross_entropy(model(pictures[rows]), labels[rows]).backward()
            optimizer.step()
    given = fashion_mnist.build("lenet300")
    return Task(model, loss, given.calib, given.verify)


def short(net: str) -> str:
    """The net's name without its file's."""
    return net.rpartition(":")[2]


def task_of(net: str) -> Task:
    """A task of the zoo, or the tanh net."""
    if net == "tanh_mlp":
        return tanh_mlp()
    if net in FASHION:
        return fashion_mnist.build(net)
    return load_task(str(ROOT / "zoo" / net))


def measured(net: str, quick: bool) -> Neighborhood:
    """The neighbourhood of one net on the first held-out samples."""
    task = task_of(net)
    first = next(iter(task.verify))
    samples = FEW if quick or net in LARGE else SAMPLES
    batch = data.select(first, slice(0, min(samples, data.batch_size(first))))
    extras: dict[str, Any] = {"sizes": PAPER_SIZES[::2] if quick else SIZES, "bits": (4,) if quick else (2, 4, 8)}
    extras["alone"] = net in ALONE
    return neighborhood(task.model, task.loss, [batch], **extras)


def rows_of(net: str, found: Neighborhood, seconds: float) -> Iterator[Row]:
    """Slopes, bounds and LLC's Table 1 of one net; targets for those without kinks."""
    for curve in found.curves:
        if curve.place == "all":
            yield from _curve_rows(f"{net}, all {curve.where}", curve, net in SMOOTH, net == "tanh_mlp")
    for point in found.points:
        if point.place == "all" and (point.error != "noise" or point.size in PAPER_SIZES):
            what = f"noise {point.size:g}" if point.error == "noise" else point.error
            name = f"{net}, all {point.where}, {what}"
            yield Row(f"{name}: loss change", point.actual, "")
            yield Row(f"{name}: |gap| of first order", point.mean_gap_first, "")
            yield Row(f"{name}: |gap| of second order", point.mean_gap_second, "")
    yield Row(f"{net}: time", seconds, "s")


def _curve_rows(name: str, curve: NoiseCurve, smooth: bool, tanh: bool) -> Iterator[Row]:
    yield Row(f"{name}: slope of the gap of first order", curve.slope_first, "")
    if smooth:
        yield Row(f"{name}: distance of that slope from 2", abs(curve.slope_first - 2), "", "<= 0.1")
    yield Row(f"{name}: slope of the gap of second order", curve.slope_second, "", ">= 2.8" if tanh else "")
    for order, bound, relative in (
        ("first", curve.bound_first, curve.bound_first_relative),
        ("second", curve.bound_second, curve.bound_second_relative),
    ):
        yield Row(f"{name}: {order} order predicts up to", bound or 0.0, "")
        yield Row(f"{name}: {order} order predicts up to", relative or 0.0, "of the RMS")


def section(net: str, run: Run) -> Iterator[Row]:
    """The rows of one net; its table, figure and numbers go to the folder."""
    begin = time.monotonic()
    result, stem = measured(net, run.quick), short(net)
    yield from rows_of(net, result, time.monotonic() - begin)
    (run.folder / f"{stem}.json").write_text(result.to_json() + "\n")
    (run.folder / f"{stem}.txt").write_text(result.table() + "\n")
    result.figure(run.folder / f"{stem}.png")


SUITE = Suite("llc_neighborhood", __doc__, {short(net): partial(section, net) for net in NETS}, quick=NETS[:1])

if __name__ == "__main__":
    main(SUITE)
