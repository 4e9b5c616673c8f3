"""Two processes against one, a killed and resumed run against an uninterrupted one, memory and half precision.

ResNet-20 with few iterations: what is compared are runs with each other, not how good they are. The held-out loss of
two processes must lie within the interval of one process's loss difference on the 10,000 test images. Processes get one
thread each. What ranks hold is measured on a net of 16.8 million random weights. Peak memory of whole compressions is
measured by ``python -m benchmarks.architectures``.
"""

from __future__ import annotations

import functools
import hashlib
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import Row, Run, Suite, main
from benchmarks.harness.case import CaseFailed, in_own_process, program

TASK, TARGET = "zoo/fashion_mnist.py:resnet20", "24"
ITERATIONS, QUICK, BATCH = 200, 20, 64
SIZE_SHARE = 0.5  # per cent that sizes may differ
SPEED = 1.6  # of two processes on two processors, from the survey to the verdict
CHECKPOINTED = "mobilenetv2"
WIDTH, DEPTH = 1024, 16  # of the net whose ranks are weighed


def command(folder: Path, name: str, iterations: int, *extra: str) -> list[str]:
    """The arguments of ``python`` for one compression."""
    words = ["-m", "noworse", "compress", TASK, "-o", str(folder / f"{name}.nwt"), "--target", TARGET, "--no-gate"]
    return [*words, "--iterations", str(iterations), "--set", f"batch={BATCH}", "--json", *extra]


def environment() -> dict[str, str]:
    """One thread for each process, as torchrun has it."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@functools.cache
def compress(
    folder: Path, name: str, iterations: int, processes: int = 1, extra: tuple[str, ...] = ()
) -> dict[str, Any]:
    """The report of one compression, by torchrun where there are several processes, with the digest of its file."""
    words = command(folder, name, iterations, *extra)
    if processes > 1:
        words = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes), *words]
    done = subprocess.run([sys.executable, *words], stdout=subprocess.PIPE, text=True, env=environment())
    if done.returncode:
        raise CaseFailed(f"the process of {name} ended with {done.returncode}")
    digest = hashlib.sha256((folder / f"{name}.nwt").read_bytes()).hexdigest()
    return {**json.loads(done.stdout), "digest": digest}


def kill_once(folder: Path, name: str, iterations: int, work: Path) -> None:
    """Start a compression and kill it a little after its first checkpoint."""
    program = "from noworse.run import resume; resume.EVERY = 0; from noworse.cli import main; main()"
    words = [sys.executable, "-c", program, *command(folder, name, iterations, "--work", str(work))[2:]]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment())
    try:
        while not list(work.glob("*.safetensors")) and process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.2)
    finally:
        process.kill()
        process.wait()


def parallel_rows(alone: dict[str, Any], two: dict[str, Any], again: dict[str, Any]) -> list[Row]:
    """Two processes against one with the same global batch."""
    one, both = alone["verdict"], two["verdict"]
    outside = max(one["lower_bound"] - both["mean_difference"], both["mean_difference"] - one["upper_bound"], 0.0)
    share = 100 * abs(two["size"] - alone["size"]) / alone["size"]
    return [
        Row("one process: file", alone["size"], "bytes"),
        Row("two processes: file", two["size"], "bytes"),
        Row("sizes differ by", share, "%", f"<= {SIZE_SHARE}"),
        Row("one process: loss difference", one["mean_difference"], "nats"),
        Row("its lower bound", one["lower_bound"], "nats"),
        Row("its upper bound", one["upper_bound"], "nats"),
        Row("two processes: loss difference", both["mean_difference"], "nats"),
        Row("distance from the interval of one process", outside, "nats", "<= 0"),
        Row("repeat of two processes: files that differ", float(two["digest"] != again["digest"]), "", "<= 0"),
        Row("one process: time", alone["seconds"], "s"),
        Row("two processes: time", two["seconds"], "s"),
        Row("two processes: speed of the whole job", alone["seconds"] / two["seconds"], "x", f">= {SPEED}"),
        Row("two processes: speed of tuning's net part", alone["spent"]["net"] / two["spent"]["net"], "x"),
    ]


def rank_memory() -> dict[str, float]:
    """MiB that this rank holds of what is tuned, and the peak of surveying and tuning beyond the net and its data."""
    import torch
    from torch import nn
    from torch.nn import functional as F

    from noworse import Options
    from noworse.jobs.draft import Draft, Terms
    from noworse.run.processes import together
    from noworse.survey.subject import Subject
    from noworse.task.task import Task

    torch.manual_seed(0)
    layers = [part for _ in range(DEPTH) for part in (nn.Linear(WIDTH, WIDTH), nn.GELU())]
    net, batches = nn.Sequential(*layers).eval(), list(torch.randn(4, 16, WIDTH))

    def loss(model: nn.Module, batch: torch.Tensor) -> torch.Tensor:
        return F.mse_loss(model(batch), batch, reduction="none").mean(1)

    task = Task(net, loss, batches, batches, distill="mse")
    with together() as world:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        draft = Draft(Subject(task, batches), Terms(Options(batch=16), world=world))
        budget = 2.0 * draft.grids.count
        draft.start(budget)
        draft.forget_start()
        draft.tuner.run(budget, 3)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        held = {"latents": [draft.grids.latent], "values": [draft.tuner.values]}
        held["moments"] = [m for state in draft.tuner.optimiser.state.values() for m in state.values()]
    sizes = {name: sum(tensor.nbytes for tensor in tensors) / 2**20 for name, tensors in held.items()}
    return sizes | {"peak": peak / 1024}


def sharded(run: Run) -> list[Row]:
    """What each of two ranks holds, against one process; the larger one counts."""
    words = ["-m", "torch.distributed.run", "--standalone", "--no-python", "--nproc-per-node", "2", sys.executable]
    words = [sys.executable, *words, *program(rank_memory)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env=environment())
    if done.returncode:
        raise CaseFailed(f"the processes ended with {done.returncode}")
    ranks = [json.loads(line) for line in done.stdout.splitlines()]
    one = in_own_process(rank_memory, environment=environment())
    two = {what: max(rank[what] for rank in ranks) for what in one}
    tuned = [found["latents"] + found["moments"] for found in (one, two)]
    return [
        Row("weights on their grid, or their gradient: each of one or two ranks", two["values"], "MiB"),
        Row("latents and moments: one process", tuned[0], "MiB"),
        Row("sharded: latents and moments, each of two ranks", tuned[1], "MiB"),
        Row("share of one process", tuned[1] / tuned[0], "", "<= 0.51"),
        Row("peak beyond the net: one process", one["peak"], "MiB"),
        Row("sharded: peak beyond the net, each of two ranks", two["peak"], "MiB", f"<= {one['peak']:.0f}"),
    ]


def peak_of_a_pass(checkpointing: bool) -> float:
    """MiB that one forward and backward pass takes beyond the process, with gradient checkpointing or without."""
    from noworse.run.memory import recompute_blocks
    from zoo.architectures import build
    from zoo.architectures.synthetic import images

    model, batch = build(CHECKPOINTED).eval(), images(16, 224, 0)
    if checkpointing:
        recompute_blocks(model)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    model(batch).square().mean().backward()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def memory_rows(run: Run) -> list[Row]:
    """Memory of a pass of MobileNetV2 at full size with checkpointing and without, each in a process of its own."""
    plain, checkpointed = (in_own_process(peak_of_a_pass, chosen) for chosen in (False, True))
    return [
        Row("memory of a pass of MobileNetV2, 16 images", plain, "MiB"),
        Row("the same with checkpointing", checkpointed, "MiB"),
        Row("ratio", checkpointed / plain, "", "<= 0.6"),
    ]


def alone(run: Run) -> dict[str, Any]:
    """One process without anything, which all others are compared with."""
    return compress(run.folder, "one", iterations_of(run))


def iterations_of(run: Run) -> int:
    """How long every run tunes."""
    return QUICK if run.quick else ITERATIONS


def processes(run: Run) -> list[Row]:
    """Two processes, twice."""
    two, again = (compress(run.folder, f"two_{k}", iterations_of(run), 2) for k in range(2))
    return parallel_rows(alone(run), two, again)


def resumed(run: Run) -> list[Row]:
    """A run that was killed and goes on."""
    work = run.folder / "checkpoints"
    kill_once(run.folder, "resumed", iterations_of(run), work)
    left = work.exists()
    again = compress(run.folder, "resumed", iterations_of(run), extra=("--work", str(work)))
    return [
        Row("killed run: left a checkpoint", float(left), "", ">= 1"),
        Row("killed and resumed run: files that differ", float(again["digest"] != alone(run)["digest"]), "", "<= 0"),
    ]


def precision(run: Run) -> list[Row]:
    """bf16 against float32."""
    one, half = alone(run), compress(run.folder, "half", iterations_of(run), extra=("--set", "precision=bf16"))
    worse = half["verdict"]["mean_difference"] - one["verdict"]["mean_difference"]
    return [
        Row("bf16: loss difference beyond that of fp32", worse, "nats"),
        Row("bf16: speed of tuning's net part", one["spent"]["net"] / half["spent"]["net"], "x"),
    ]


SECTIONS = {"processes": processes, "resumed": resumed, "precision": precision, "memory": memory_rows}
SECTIONS["sharded"] = sharded
SUITE = Suite("scale", __doc__, SECTIONS, quick=("memory", "resumed"))

if __name__ == "__main__":
    main(SUITE)
