"""What grids and optimiser cost in an iteration of tuning, per weight, on one thread."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.harness import Row, Run, rounds
from noworse.propose.grids.grid import GridSet, GridSpec
from noworse.rate.soft import Cosine
from noworse.tune.adam import Adam

WIDTH, BLOCKS = 512, 6  # of a transformer of 19M weights
BITS = 3.0  # about, of a weight
STEP = 0.7  # in units of the scale, which gives so many bits


def transformer(blocks: int) -> dict[str, torch.Tensor]:
    """Laplacian weights of scale 1, in the shapes of a transformer's matrices."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"query": (WIDTH, WIDTH), "key": (WIDTH, WIDTH), "value": (WIDTH, WIDTH), "out": (WIDTH, WIDTH)}
    shapes |= {"up": (4 * WIDTH, WIDTH), "down": (WIDTH, 4 * WIDTH), "norm": (1, WIDTH)}
    found = {}
    for block in range(blocks):
        for name, shape in shapes.items():
            uniform = torch.rand(2, *shape, generator=generator)
            sign = (uniform[1] < 0.5).float().mul(2).sub(1)
            found[f"{block}.{name}"] = -uniform[0].clamp(min=1e-6).log() * sign
    return found


def rows(run: Run) -> Iterator[Row]:
    """Rows of quantise, gradients and the optimiser."""
    torch.set_num_threads(1)
    weights = transformer(1 if run.quick else BLOCKS)
    grids = GridSet([GridSpec(name, tuple(w.shape), "float32") for name, w in weights.items()], weights, 0.5)
    grids.log_step.fill_(torch.tensor(STEP).log())
    grids.rebase()
    out, upstream = torch.empty(grids.count), torch.randn(grids.count)
    gradient, kernel, adam = upstream.clone(), Cosine(), Adam([{"params": [grids.latent], "lr": 1e-6}])
    actions = {
        "quantise and counts": lambda: grids.quantise(out, kernel, False),
        "gradients": lambda: grids.gradients(out, gradient.copy_(upstream), 1e-3, False),
        "optimiser": adam.step,
    }
    for name, seconds in rounds(actions, 2 if run.quick else 10).items():
        yield Row(f"{name}, torch", 1e9 * min(seconds) / grids.count, "ns/weight")
