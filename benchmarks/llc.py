"""LLC's quantisation: how few bits are no worse, against its published form and other allocations, on held-out data.

``python -m benchmarks.llc [--quick] [--json FILE] [--check] [--only SECTION ...]``

Everything is judged on the 10,000 test images, which no setting was chosen on. ``--quick`` takes 500 of them, less of
calib and the smallest net. Sections: smallest, equal, allocation, integers, sensitivity, neighborhood.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks import llc_neighborhood, llc_sensitivity
from benchmarks.table import Row, Section, run_sections
from noworse.allocate import Choices, knapsack
from noworse.onnx_export import export_onnx
from noworse.quantize import Quantization, quantize_task
from noworse.task import Task
from zoo import data, fashion_mnist

NETS = ("lenet5", "resnet20", "vgg_small", "mobilenetv2")
CALIB = 2000  # samples
TOLERANCE = 0.01  # nats
SIZES = (4.5, 3.5, 3.0)  # bits per weight
WIDTHS = {4.5: 4, 3.5: 3, 3.0: 3}  # of uniform bits within them
RIVALS: dict[str, dict[str, Any]] = {
    "trace": {"cost": "trace"}, "fisher": {"cost": "fisher"}, "mse": {"cost": "mse"}, "paper": {"preset": "paper"}
}  # fmt: skip


def task_of(name: str, quick: bool, labelled: bool = False) -> Task:
    """The net's task; ``labelled`` gives calib its labels."""
    task = fashion_mnist.build(name)
    images, labels = (part[: 400 if quick else CALIB].split(250) for part in data.load("calib"))
    calib: Any = list(zip(images, labels, strict=True)) if labelled else list(images)
    return replace(task, calib=calib, verify=list(task.verify)[: 1 if quick else None])


def outcome(what: str, found: Quantization, drop: str, seconds: str = "") -> list[Row]:
    """The rows of one quantisation."""
    verdict = found.verdict
    with TemporaryDirectory() as folder:
        size = found.save(Path(folder) / "a.nwt")
    whole = 4 * sum(p.numel() for p in found.module.parameters())
    gain = (verdict.metric_compressed or 0.0) - (verdict.metric_original or 0.0)
    return [
        Row(f"{what}: bits per weight", found.mean_bits, "bits"),
        Row(f"{what}: drop-rate of weights", 100 * found.drop, "%", drop),
        Row(f"{what}: drop-rate of the whole file", 100 * (1 - size / whole), "%"),
        Row(f"{what}: loss difference", verdict.mean_difference, "nats"),
        Row(f"{what}: its upper bound", verdict.upper_bound, "nats", f"<= {TOLERANCE}"),
        Row(f"{what}: top-1 minus the original's", gain, "points"),
        Row(f"{what}: time", found.seconds, "s", seconds),
    ]


def smallest(quick: bool) -> list[Row]:
    """As few bits as the tolerance allows: weights and activations, then weights alone (LLC: 56 to 77 %)."""
    rows = []
    for net in NETS[: 1 if quick else None]:
        for what, activations, drop in (("weights and inputs", True, ">= 80"), ("weights", False, ">= 86")):
            found = quantize_task(task_of(net, quick), tolerance=TOLERANCE, activations=activations)
            limit = "<= 180" if net == "resnet20" and activations else ""
            rows += outcome(f"{net}, {what}", found, drop, limit)
    return rows


def equal(quick: bool) -> list[Row]:
    """Held-out losses at equal sizes: true losses with pairs against uniform bits, other costs and LLC as published."""
    rows = []
    for net in NETS[: 1 if quick else None]:
        for bits in SIZES[: 1 if quick else None]:
            ours = quantize_task(task_of(net, quick), bits=bits)
            what = f"{net}, {bits} bits"
            rows.append(Row(f"{what}, default: loss difference", ours.verdict.mean_difference, "nats"))
            names = [row.name for row in ours.table]
            rivals = {"uniform": {"bits": dict.fromkeys(names, WIDTHS[bits])}, **RIVALS}
            for rival, given in rivals.items():
                job = task_of(net, quick, labelled=rival == "paper")
                other = quantize_task(job, **{"bits": bits, **given}).verdict
                excess = ours.verdict.mean_difference - other.mean_difference
                rows.append(Row(f"{what}, {rival}: loss difference", other.mean_difference, "nats"))
                rows.append(Row(f"{what}: default minus {rival}", excess, "nats", "<= 0"))
    return rows


def allocation(quick: bool) -> list[Row]:
    """The time of a proven optimum for 200 layers with 12 choices each."""
    rng = np.random.default_rng(0)
    bits = np.arange(2, 14)
    counts = rng.integers(1000, 1_000_000, 200)
    costs = [(rng.lognormal(0, 1, 12) * n * 4.0**-bits).tolist() for n in counts]
    choices = Choices(costs, [(n * bits).astype(float).tolist() for n in counts])
    rows = []
    for share in (2.5, 4.0, 6.0):
        begin = time.perf_counter()
        knapsack(choices, share * float(counts.sum()))
        spent = time.perf_counter() - begin
        rows.append(Row(f"200 layers, 12 choices, {share} bits: proven optimum", spent, "s", "<= 1"))
    return rows


def integers(quick: bool) -> list[Row]:
    """ONNX files of int8 and int4 weights in onnxruntime: predictions, bytes, and time against the float32 net."""
    import onnxruntime

    rows = []
    for net in NETS[: 1 if quick else 3]:
        task = task_of(net, quick)
        images = torch.cat([x for x, _ in task.verify])
        float_net = quantize_task(task, bits=32, activations=False)
        with TemporaryDirectory() as folder:
            seconds = {}
            for name, found in (("float", float_net), ("int8", quantize_task(task, bits=8)),
                                ("mixed", quantize_task(task, bits=4.5))):  # fmt: skip
                path = Path(folder) / f"{name}.onnx"
                size = export_onnx(found, images[:2], path)
                session = onnxruntime.InferenceSession(str(path))
                batches = [x.numpy() for x in images.split(250)]
                begin = time.perf_counter()
                predicted = np.concatenate([session.run(None, {"input": x})[0].argmax(1) for x in batches])
                seconds[name] = time.perf_counter() - begin
                with torch.no_grad():
                    own = torch.cat([found.module(x).argmax(1) for x in images.split(250)]).numpy()
                what = f"{net}, onnx {name}"
                same = 100 * float((predicted == own).mean())
                rows.append(Row(f"{what}: same top-1 as the module", same, "%", ">= 99.9"))
                codes = sum(p.bits for p in found.proposals) / 8
                rows.append(Row(f"{what}: bytes over those of its weights' bits", size / codes, "x"))
            rows.append(Row(f"{net}, onnx int8: time", seconds["int8"] / seconds["float"], "of float32", "<= 1"))
    return rows


SECTIONS: dict[str, Section] = {
    s.__name__: s for s in (smallest, equal, allocation, integers)
} | {"sensitivity": llc_sensitivity.rows, "neighborhood": llc_neighborhood.rows}  # fmt: skip


if __name__ == "__main__":
    run_sections(SECTIONS, __doc__.splitlines()[0])
