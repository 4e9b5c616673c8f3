"""What grids and optimiser cost in an iteration of tuning: native code and torch code take turns, on one thread."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.harness import Row, Run, rounds
from noworse.propose.grids.compensated import start_at
from noworse.propose.grids.grid import GridSet, GridSpec
from noworse.rate.soft import Cosine
from noworse.task.distances import KL
from noworse.tune import adam
from noworse.tune.objective import Objective, Response
from noworse.tune.options import Options
from noworse.tune.sampling import Sampler
from noworse.tune.tuner import Hooks, Tuner
from zoo.nets import NETS

WIDTH, BLOCKS, HEADS, WORDS = 512, 6, 8, 1000  # of a transformer of 20M weights
SEQUENCES, LENGTH, IMAGES = 8, 256, 32  # of a batch
STEP = 0.7  # in units of the weights' scale, which gives about 3 bits
LIMITS = {"quantise and counts": 3.0, "gradients": 2.0, "optimiser": 4.0}  # ns per weight
SHARE_OF_TORCH = 0.2  # or this much of torch's time
RATE = 4 / 3  # bits per weight that iterations tune at, 1/24
NATIVE, TORCH = "native", "torch"


class Block(nn.Module):
    """Causal attention and two linear layers, each behind a norm."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attend, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C)
        q, k, v = (part.unflatten(2, (HEADS, -1)).transpose(1, 2) for part in self.attend(self.first(x)).chunk(3, 2))
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.down(F.gelu(self.up(self.second(x))))  # type: ignore[no-any-return]


@torch.no_grad()
def trained(net: nn.Module) -> nn.Module:
    """A net whose norms and biases are not constant."""
    generator = torch.Generator().manual_seed(0)
    for weight in net.parameters():
        weight += 0.02 * torch.randn(weight.shape, generator=generator)
    return net.eval()


def transformer(blocks: int) -> nn.Module:
    """Words (B, T) to logits (B, T, WORDS)."""
    torch.manual_seed(0)
    body = [nn.Embedding(WORDS, WIDTH), *(Block() for _ in range(blocks)), nn.LayerNorm(WIDTH), nn.Linear(WIDTH, WORDS)]
    return trained(nn.Sequential(*body))


def grids_of(net: nn.Module) -> GridSet:
    """All parameters on grids of STEP."""
    weights = dict(net.named_parameters())
    grids = GridSet([GridSpec(name, tuple(w.shape), "float32") for name, w in weights.items()], weights, 0.5)
    grids.log_step.copy_((STEP * torch.tensor(grids.rms)).log())
    grids.rebase()
    return grids


def per_weight(run: Run) -> Iterator[Row]:
    """Rows of quantise, gradients and the optimiser, in processor time."""
    torch.set_num_threads(1)
    grids = grids_of(transformer(1 if run.quick else BLOCKS))
    out, upstream, gradient = torch.empty(grids.count), torch.randn(grids.count), torch.empty(grids.count)
    kernel = Cosine()
    adams = {kind: adam.Adam([{"params": [grids.latent], "lr": 1e-6}]) for kind in (NATIVE, TORCH)}

    def choose(kind: str) -> None:
        grids.native = adam.NATIVE = kind == NATIVE
        grids.latent.grad = gradient.copy_(upstream)

    actions: dict[str, Callable[[], object]] = {}
    for kind, optimiser in adams.items():
        actions[f"choose {kind}"] = lambda kind=kind: choose(kind)
        actions[f"quantise and counts {kind}"] = lambda: grids.quantise(out, kernel, False)
        actions[f"gradients {kind}"] = lambda: grids.gradients(out, gradient, 1e-3, False)
        actions[f"optimiser {kind}"] = optimiser.step
    with mock.patch.object(adam, "NATIVE"), torch.no_grad():
        seconds = rounds(actions, 2 if run.quick else 10, time.thread_time)
    for name, limit in LIMITS.items():
        native, slow = (1e9 * min(seconds[f"{name} {kind}"]) / grids.count for kind in (NATIVE, TORCH))
        yield Row(f"{name}: native", native, "ns/weight")
        yield Row(f"{name}: torch", slow, "ns/weight")
        yield Row(f"{name}: share of its limit", min(native / limit, native / slow / SHARE_OF_TORCH), "x", "<= 1")


def tuner_of(net: nn.Module, inputs: Tensor) -> Tuner:
    """A tuner whose batches are all of the inputs, and the teacher's outputs known."""
    grids, options = grids_of(net), Options(batch=len(inputs))
    with torch.no_grad():
        outputs = Response(net(inputs).detach())

    def forward(module: nn.Module, batch: Any) -> Tensor:
        return module(batch)  # type: ignore[no-any-return]

    hooks = Hooks(lambda batch, _: (batch, outputs), lambda: int(grids.bits.sum()) // 8, lambda line: None)
    tuner = Tuner(net, grids, Sampler([inputs], options.batch, 0), Objective(KL(), forward), options, hooks)
    sensitivity = dict.fromkeys((spec.name for spec in grids.specs), 1.0)
    start_at(grids, sensitivity, RATE * grids.count, grids.meter(tuner.values))
    tuner.reset(1e-3)
    return tuner


def iteration(run: Run) -> Iterator[Row]:
    """Rows of what share of an iteration grids and optimiser take, of a small net and of a larger one."""
    torch.set_num_threads(1)
    words = torch.randint(0, WORDS, (SEQUENCES, LENGTH), generator=torch.Generator().manual_seed(0))
    images = torch.randn(IMAGES, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    last = nn.Sequential(transformer(1 if run.quick else BLOCKS), Last())
    nets = {"resnet20, 32 images": (trained(NETS["resnet20"]()), images, 30, 10)}
    nets["transformer of 20M, 2,048 tokens"] = (last, words, 5, 25)
    for name, (net, inputs, count, limit) in nets.items():
        tuner = tuner_of(net, inputs)
        spent: dict[str, list[dict[str, float]]] = {NATIVE: [], TORCH: []}
        for number in range(2 * (3 if run.quick else count)):
            kind = (NATIVE, TORCH)[number % 2]
            tuner.seconds = {"net": 0.0, "grids": 0.0}
            tuner.grids.native = kind == NATIVE
            with mock.patch.object(adam, "NATIVE", kind == NATIVE):
                tuner.turn(number, 1000, RATE * tuner.grids.count, RATE * tuner.grids.count)
            spent[kind].append(tuner.seconds)
        passes = min(each["net"] for own in spent.values() for each in own)
        for kind, target in ((NATIVE, f"<= {limit}"), (TORCH, "")):
            grids = min(each["grids"] for each in spent[kind])
            yield Row(f"{name}: grids, {kind}", 100 * grids / (grids + passes), "% of an iteration", target)


class Last(nn.Module):
    """The last place of each sequence."""

    def forward(self, x: Tensor) -> Tensor:  # (B, T, C) -> (B, C)
        return x[:, -1]
