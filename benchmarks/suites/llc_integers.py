"""Quantised nets as ONNX files in onnxruntime: predictions, bytes, and time against the float32 net."""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks.harness import Row, Run, rounds
from benchmarks.suites.llc_nets import inputs_as_they_are, quantise, search_of, task_of
from noworse.export.onnx import export_onnx
from noworse.jobs.quantize import Quantization

NETS = ("lenet5", "resnet20", "vgg_small")
BATCH, REPEATS = 100, 5
TOLERANCE = 0.01


def session(path: Path) -> Any:
    """An onnxruntime session on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def run_all(net: Any, batches: list[Any]) -> list[Any]:
    """The net's outputs for each batch."""
    return [net.run(None, {"input": batch})[0] for batch in batches]


def rows(run: Run) -> list[Row]:
    """The rows of all nets."""
    found = []
    for net in run.few(NETS):
        task = task_of(net, run.quick)
        held_out = list(task.verify)
        search = search_of(task)
        images = torch.cat([x for x, _ in held_out])
        few = held_out[:1]  # verdicts are not what is measured here
        results = {"int8": quantise(search, few, {site.name: 8 for site in search.survey.sites}, TOLERANCE)}
        results["mixed"] = quantise(search, few, 4.5, TOLERANCE)
        results["float"] = quantise(inputs_as_they_are(search), few, 32, TOLERANCE)
        found += _net(net, results, images)
    return found


def _net(net: str, results: dict[str, Quantization], images: torch.Tensor) -> list[Row]:
    rows = []
    spent = {}
    with TemporaryDirectory() as folder:
        for name, result in results.items():
            path = Path(folder) / f"{name}.onnx"
            size = export_onnx(result, images[:2], path)
            run_net = session(path)
            batches = [x.numpy() for x in images.split(BATCH)]
            predicted = np.concatenate([logits.argmax(1) for logits in run_all(run_net, batches)])
            forward = partial(run_all, run_net, batches[:10])
            spent[name] = statistics.median(rounds({name: forward}, REPEATS)[name])
            with torch.no_grad():
                own = torch.cat([result.module(x).argmax(1) for x in images.split(250)]).numpy()
            what = f"{net}, onnx {name}"
            rows.append(
                Row(f"{what}: same top-1 as the module", 100 * float((predicted == own).mean()), "%", ">= 99.9")
            )
            codes = sum(p.bits for p in result.proposals) / 8
            rows.append(Row(f"{what}: bytes over those of its weights' bits", size / codes, "x"))
            rows.append(Row(f"{what}: time of 1,000 images", 1000 * spent[name], "ms"))
    target = "" if net == "lenet5" else "<= 1"
    return [*rows, Row(f"{net}, onnx int8: time", spent["int8"] / spent["float"], "of float32", target)]
