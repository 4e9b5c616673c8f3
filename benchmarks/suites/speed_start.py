"""What comes before tuning, in units of one pass (forward and backward of the surveyed samples), its memory and growth.

Nets have random weights: what is measured are their shapes. Each runs in a process of its own, in processor time of one
thread, which neighbours on the machine change least. Memory is what a whole compression takes beyond the model itself
and beyond the activations of a pass (benchmarks/suites/architectures.py).
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.harness import Row, Run
from benchmarks.suites.architectures import ENVIRONMENT, peak, resident, warm_up
from zoo.architectures.resnet import ResNet
from zoo.architectures.vit import VisionTransformer

SAMPLES, HELD_OUT, BATCH, ITERATIONS, RATIO = 16, 32, 4, 20, 10.0
LARGEST = "llama 350M"
PASSES = {"resnet": 20, "vit": 25, "llama": 25}  # most that survey and start may take
MEMORY, LARGE = 3.0, 20e6  # most times the fp32 model, of nets from so many weights on
EXPONENT = 1.1  # of growth
STAGES = ("survey", "start", "tune", "land", "write", "verify")


class Block(nn.Module):
    """A decoder block of Llama's kind: grouped queries, and a gated MLP."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads, few = heads, width // 3
        self.norms = nn.ModuleList(nn.RMSNorm(width) for _ in range(2))
        self.query, self.out = nn.Linear(width, width, bias=False), nn.Linear(width, width, bias=False)
        self.key, self.value = nn.Linear(width, few, bias=False), nn.Linear(width, few, bias=False)
        self.gate, self.up = nn.Linear(width, inner, bias=False), nn.Linear(width, inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C)
        y = self.norms[0](x)
        size = x.shape[2] // self.heads
        q, k, v = (layer(y).unflatten(2, (-1, size)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        x = x + self.out(seen.transpose(1, 2).flatten(2))
        y = self.norms[1](x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """A language model in the shape of SmolLM2: tokens (B, T) to logits (B, T, V), with one matrix at both ends."""

    def __init__(self, tokens: int, width: int, blocks: int, heads: int, inner: int) -> None:
        super().__init__()
        self.embed = nn.Embedding(tokens, width)
        self.blocks = nn.Sequential(*(Block(width, heads, inner) for _ in range(blocks)), nn.RMSNorm(width))
        nn.init.normal_(self.embed.weight, std=0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        return F.linear(self.blocks(self.embed(tokens)), self.embed.weight)


NETS: dict[str, Callable[[], nn.Module]] = {
    "llama 0.4M": lambda: Llama(512, 96, 3, 3, 256),
    "llama 1.6M": lambda: Llama(2048, 192, 3, 3, 512),
    "llama 6M": lambda: Llama(4096, 288, 5, 6, 768),
    "llama 23M": lambda: Llama(8192, 384, 11, 6, 1024),
    "llama 135M": lambda: Llama(49152, 576, 30, 9, 1536),
    "llama 350M": lambda: Llama(32768, 1152, 22, 18, 3072),
    "resnet18": lambda: ResNet((2, 2, 2, 2), bottleneck=False),
    "resnet50": lambda: ResNet((3, 4, 6, 3), bottleneck=True),
    "vit 5.7M": lambda: VisionTransformer(width=192, heads=3),
    "vit 22M": lambda: VisionTransformer(width=384, heads=6),
    "vit 87M": VisionTransformer,
}
SIDE, TOKENS = 224, 128


def batches(name: str, count: int, side: int, tokens: int, seed: int) -> list[Tensor]:
    """Random images of ``side`` pixels, or sequences of ``tokens``."""
    generator = torch.Generator().manual_seed(seed)
    if name.startswith("llama"):
        return list(torch.randint(512, (count, tokens), generator=generator).split(BATCH))
    return list(torch.randn(count, 3, side, side, generator=generator).split(BATCH))


def loss(model: nn.Module, batch: Tensor) -> Tensor:
    """Some loss of each sample, (B,): none of what is measured here depends on it."""
    outputs: Tensor = model(batch)
    return outputs.flatten(1).logsumexp(1)


def task_of(name: str, quick: bool) -> Any:
    """A net, and samples of the published size, or of half of it where that is quick."""
    import noworse as nw

    torch.manual_seed(0)
    model = NETS[name]().eval()
    small = 32 if name.startswith("resnet") else SIDE  # judging is not measured
    calib = batches(name, SAMPLES, SIDE // 2 if quick and small < SIDE else SIDE, TOKENS // 4 if quick else TOKENS, 1)
    return nw.Task(model=model, loss=loss, calib=calib, verify=batches(name, HELD_OUT, small, 8, 2), distill="kl")


def pass_over(task: Any) -> float:
    """Processor seconds of a forward and backward pass over calib, whose gradients are freed one by one."""
    begin = time.process_time()
    for batch in task.calib:
        loss(task.model, batch).mean().backward()
    return time.process_time() - begin


def _free(parameter: Tensor) -> None:
    parameter.grad = None


def stages(name: str, quick: bool, iterations: int, folder: str) -> dict[str, float]:
    """Processor seconds of every stage of a compression with preset "fast", and of a pass before it."""
    from dataclasses import replace

    from noworse.format import write
    from noworse.jobs.draft import AIM, Draft, Terms, land
    from noworse.jobs.job import Job
    from noworse.model.load import load_model
    from noworse.model.tensors import twin
    from noworse.survey.subject import Subject
    from noworse.tune.options import choose

    torch.set_num_threads(1)
    warm_up(folder)
    task, options = task_of(name, quick), replace(choose(None, "fast"), iterations=iterations)
    job = Job(task, None, options)
    plain = twin(task.model)
    for parameter in plain.parameters():
        parameter.register_post_accumulate_grad_hook(_free)
    passes = [pass_over(replace(task, model=plain)) for _ in range(2)]
    found, path = {"pass": min(passes), "weights": sum(p.numel() for p in plain.parameters())}, Path(folder) / "net.nwt"
    size = int(4 * found["weights"] / RATIO)
    marks = [time.process_time()]
    draft = Draft(Subject(job.task, job.calib), Terms(options, verdict=job.expected(1)))
    marks.append(time.process_time())
    draft.start(8 * AIM * size)
    draft.forget_start()
    marks.append(time.process_time())
    draft.tuner.run(8 * AIM * size, iterations)
    marks.append(time.process_time())
    items = land(draft, size)
    marks.append(time.process_time())
    write(path, items, draft.settings, coder=options.coder)
    marks.append(time.process_time())
    job.judge(load_model(twin(task.model), path))
    marks.append(time.process_time())
    return found | dict(zip(STAGES, (b - a for a, b in itertools.pairwise(marks)), strict=True))


def memory(name: str, quick: bool, folder: str) -> dict[str, float]:
    """Bytes that a pass takes, and that a whole compression takes, beyond the model."""
    from dataclasses import replace

    import noworse as nw
    from noworse.tune.options import choose

    torch.set_num_threads(1)
    warm_up(folder)
    task = task_of(name, quick)
    handles = [p.register_post_accumulate_grad_hook(_free) for p in task.model.parameters()]
    before = resident()
    pass_over(task)
    activations = peak() - before
    for handle in handles:
        handle.remove()
    before, options = resident(), replace(choose(None, "fast"), iterations=2, batch=BATCH)
    settings: dict[str, Any] = {"target": RATIO, "tolerance": None, "options": options, "progress": None}
    report = nw.compress_task(task, Path(folder) / "net.nwt", **settings)
    return {"activations": activations, "peak": peak() - before, "model": report.original_size}


def whole(name: str, quick: bool, folder: str) -> dict[str, float]:
    """Processor seconds of one thread and bytes of memory, all in all, of a compression with preset "fast"."""
    from dataclasses import replace

    import noworse as nw
    from noworse.tune.options import choose

    torch.set_num_threads(1)
    task, options = task_of(name, quick), replace(choose(None, "fast"), iterations=ITERATIONS, batch=BATCH)
    begin = time.process_time()
    settings: dict[str, Any] = {"target": RATIO, "tolerance": None, "options": options, "progress": None}
    report = nw.compress_task(task, Path(folder) / "net.nwt", **settings)
    return {"seconds": time.process_time() - begin, "peak": peak(), "weights": report.original_size / 4}


def rows(run: Run) -> Iterator[Row]:
    """Rows of passes, of memory, and of growth."""
    folder = str(run.folder)
    grown = ["llama 0.4M", "llama 1.6M"] if run.quick else ["llama 0.4M", "llama 1.6M", "llama 6M", "llama 23M"]
    others = ["vit 5.7M"] if run.quick else ["resnet18", "resnet50", "vit 5.7M", "vit 22M", "vit 87M", "llama 135M"]
    found = {}
    for name in [*grown, *others]:
        given = name, run.quick, ITERATIONS * (name in grown), folder  # only growth is of tuning, too
        found[name] = once = run.case(f"start_{name}", stages, *given, environment=ENVIRONMENT)
        most = f"<= {PASSES[name.partition(' ')[0].rstrip('0123456789')]}" if not run.quick else ""
        yield Row(f"{name}: a pass", once["pass"], "s")
        yield Row(f"{name}: survey", once["survey"] / once["pass"], "passes")
        yield Row(f"{name}: start", once["start"] / once["pass"], "passes")
        yield Row(f"{name}: survey and start", (once["survey"] + once["start"]) / once["pass"], "passes", most)
    first, last = (found[grown[k]] for k in (0, -1))
    for stage in STAGES:
        exponent = math.log(last[stage] / first[stage]) / math.log(last["weights"] / first["weights"])
        yield Row(f"growth of {stage}, exponent", exponent, "", "" if run.quick else f"<= {EXPONENT}")
    for name in ["llama 1.6M"] if run.quick else ["llama 23M", "resnet50", "vit 22M"]:
        taken = run.case(f"memory_{name}", memory, name, run.quick, folder, environment=ENVIRONMENT)
        times = (taken["peak"] - taken["activations"]) / taken["model"]
        yield Row(f"{name}: peak memory without activations", times, "x fp32", "" if run.quick else f"<= {MEMORY}")


def large_rows(run: Run) -> Iterator[Row]:
    """Time and memory of a whole compression of 350M weights."""
    name = "llama 6M" if run.quick else LARGEST
    taken = run.case(f"large_{name}", whole, name, run.quick, str(run.folder), environment=ENVIRONMENT)
    yield Row(f"{name}: weights", taken["weights"] / 1e6, "M")
    yield Row(f"{name}: preset fast and 20 iterations", taken["seconds"] / 60, "min", "" if run.quick else "<= 40")
    yield Row(f"{name}: peak memory of the process", taken["peak"] / 2**30, "GiB", "" if run.quick else "<= 8")
