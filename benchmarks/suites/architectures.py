"""Every architecture of the L² paper at full size through compress, file and load: bytes, seconds, memory.

No checkpoint can be had where this runs, so weights are random (zoo/architectures/synthetic.py) and images synthetic:
this shows that a net of this size goes through and what it costs, nothing about accuracy (benchmarks.imagenet does
that for who has ImageNet). Every part runs in a process of its own. "plain" are forward and backward passes of the
model alone on a batch whose gradients are freed one by one: what they take are the activations. Memory is that of the
process beyond what it had before the call, after a tiny net was compressed so that libraries are loaded, and with a C
library that gives large blocks back at once (``ENVIRONMENT``). Smallest nets come first.
"""

from __future__ import annotations

import ctypes
import gc
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.harness import Row, Run, Suite, main
from benchmarks.suites.l2 import share_of_grids
from zoo import classify
from zoo.architectures import ARCHITECTURES, build
from zoo.architectures.synthetic import images, randomise

NAMES = (
    "mobilenetv2", "mnasnet1_0", "regnetx_600m", "resnet18", "mnasnet2_0", "regnetx_3200m", "yolov5m", "resnet50",
    "vit_b_16",
)  # fmt: skip
RATIO, ITERATIONS, BATCH, CALIB, VERIFY = 10.0, 3, 4, 32, 32
SIDES = {"yolov5m": 320}  # a quarter of the published 640: time and activations are those of the images, not of weights
MEMORY = 4.0  # most times the fp32 model, activations aside
PASSES = 4
ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": str(1 << 17)}  # glibc: blocks of 128 KiB or more go back when freed


def model_and_batches(name: str) -> tuple[nn.Module, list[Tensor], list[Tensor]]:
    """The net with random weights, and batches of synthetic images to calibrate it on and to judge it by."""
    side = SIDES.get(name, ARCHITECTURES[name].side)
    calib, held_out = (list(images(n, side, seed).split(BATCH)) for n, seed in ((CALIB, 1), (VERIFY, 2)))
    return randomise(build(name), 0, calib[:2]), calib, held_out


def detection_loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Cross-entropy of every objectness and class score, averaged over an image, (B,)."""
    scores = model(batch[0])[..., 4:]
    return F.binary_cross_entropy_with_logits(scores, batch[1], reduction="none").mean((1, 2))


@torch.no_grad()
def labelled(model: nn.Module, batches: list[Tensor], detector: bool) -> list[tuple[Tensor, Tensor]]:
    """Images with what the model itself says about them."""
    outputs = [model(batch) for batch in batches]
    labels = [(y[..., 4:] > 0).float() if detector else y.argmax(1) for y in outputs]
    return list(zip(batches, labels, strict=True))


def peak() -> int:
    """Bytes that this process had in memory at most, since the last call of ``resident`` (Linux)."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def resident() -> int:
    """Bytes that this process has in memory now, without what it freed; ``peak`` counts from here (Linux, glibc)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return peak()


def warm_up(folder: str) -> None:
    """Compress a tiny net, so that what libraries load and keep at their first use is there before anything counts."""
    import noworse as nw

    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    net.append(nn.Linear(8, 10)).eval()
    calib, held_out = (list(images(n, 16, seed).split(BATCH)) for n, seed in ((CALIB, 3), (VERIFY, 4)))
    settings: dict[str, Any] = {
        "target": "700B",
        "tolerance": None,
        "options": nw.Options(iterations=1, batch=BATCH),
        "progress": None,
    }
    task = nw.Task(model=net, loss=classify.loss, calib=calib, verify=labelled(net, held_out, False))
    nw.compress_task(task, Path(folder) / "warm_up.nwt", **settings)


def _free(parameter: Tensor) -> None:
    parameter.grad = None


def run_plain(name: str, folder: str) -> dict[str, Any]:
    """Seconds of a forward and backward pass, and the memory that a few take while no gradient is kept.

    At the peak of a backward pass most gradients do not exist yet: to subtract all of them would be too much. Images
    are in the memory format in which ``compress`` passes them on, which decides what convolutions need beside them.
    """
    from noworse.task.data import to_float32

    model, calib, _held_out = model_and_batches(name)  # kept, so that its end is not taken for memory that was gained
    for parameter in model.parameters():
        parameter.register_post_accumulate_grad_hook(_free)
    warm_up(folder)
    batch = to_float32(calib[0])
    before = resident()
    begin = time.perf_counter()
    for _ in range(PASSES):  # one alone may, by where blocks happen to lie, take much less or more than the next
        model(batch).square().mean().backward()
    return {"seconds": (time.perf_counter() - begin) / PASSES, "activations": max(0, peak() - before)}


def run_compress(name: str, quick: bool, folder: str) -> dict[str, Any]:
    """Compress, load, and compare; memory is what ``compress`` takes beyond the process as it was before the call."""
    import noworse as nw
    from noworse.format import File

    model, calib, held_out = model_and_batches(name)
    detector = name == "yolov5m"
    task = nw.Task(
        model=model, loss=detection_loss if detector else classify.loss, calib=calib,
        verify=labelled(model, held_out, detector), distill="mse" if detector else "kl",
    )  # fmt: skip
    path = Path(folder) / f"{name}.nwt"
    stamps: list[tuple[str, float]] = []
    options = nw.Options(iterations=0 if quick else ITERATIONS, batch=BATCH)
    warm_up(folder)
    before = resident()
    begin = time.monotonic()
    report = nw.compress_task(
        task,
        path,
        target=RATIO,
        tolerance=None,
        options=options,
        progress=lambda step: stamps.append((step.stage, time.monotonic())),
    )
    seconds, most = time.monotonic() - begin, peak()
    tuned = next(when for stage, when in stamps if stage.startswith(("tune", "write")))
    opened = time.monotonic()
    loaded = nw.load_model(build(name), path)
    load_seconds = time.monotonic() - opened
    decoded = {key: torch.from_numpy(value) for key, value in nw.load_file(path, framework="np").items()}
    with torch.no_grad():
        expected = torch.func.functional_call(build(name), decoded, held_out[0])
        deviation = float((loaded(held_out[0]) - expected).abs().max())
    with File(path) as file:
        rest = abs(sum(file.attribution().values()) - report.size)
    return {
        "size": report.size, "original": report.original_size, "seconds": seconds, "load": load_seconds,
        "start": tuned - begin - sum(report.spent.values()), "spent": report.spent, "deviation": deviation,
        "attribution": rest, "peak": most - before, "iterations": options.iterations,
    }  # fmt: skip


def rows_of(name: str, plain: dict[str, Any], run: dict[str, Any]) -> list[Row]:
    """The rows of one architecture."""
    times = (run["peak"] - plain["activations"]) / run["original"]
    return [
        Row(f"{name}: parameters", ARCHITECTURES[name].parameters, ""),
        Row(f"{name}: file", run["size"], "bytes"),
        Row(f"{name}: ratio", run["original"] / run["size"], "x", f">= {RATIO}"),
        Row(f"{name}: iterations and landing, net", run["spent"]["net"], "s"),
        Row(f"{name}: iterations and landing, grids", run["spent"]["grids"], "s"),
        Row(f"{name}: share of the grids", share_of_grids(run["spent"]), "% of time"),
        Row(f"{name}: survey and start", run["start"], "s"),
        Row(f"{name}: everything", run["seconds"], "s"),
        Row(f"{name}: plain forward and backward", plain["seconds"], "s"),
        Row(f"{name}: load", run["load"], "s"),
        Row(f"{name}: fp32 model", run["original"] / 2**30, "GiB"),
        Row(f"{name}: activations", plain["activations"] / 2**30, "GiB"),
        Row(f"{name}: peak memory", run["peak"] / 2**30, "GiB"),
        Row(f"{name}: peak without activations", times, "x fp32", f"<= {MEMORY}"),
        Row(f"{name}: outputs of the loaded model minus those of the decoded weights", run["deviation"], "", "<= 0"),
        Row(f"{name}: attribution minus file size", run["attribution"], "bytes", "<= 0"),
    ]


def section(name: str, run: Run) -> list[Row]:
    """The same after both parts, each in a process of its own."""
    folder = str(run.folder)
    plain = run.case(f"{name}_plain", run_plain, name, folder, environment=ENVIRONMENT)
    compressed = run.case(f"{name}_compress", run_compress, name, run.quick, folder, environment=ENVIRONMENT)
    return rows_of(name, plain, compressed)


SUITE = Suite("architectures", __doc__, {name: partial(section, name) for name in NAMES}, quick=NAMES[:1])

if __name__ == "__main__":
    main(SUITE)
