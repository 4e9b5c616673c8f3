"""What transform and counter cost per weight in torch code, on one thread: all kernels, widths and transforms.

Nothing is sampled. Forward is ``quantise`` (values, hard bits, soft entropy), backward ``gradients`` (by weights, steps
and zones). The official estimate and the transforms with curves are there for comparison; native code is measured by
``benchmarks.speed``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import torch

from benchmarks.harness import Row, Run, Suite, main
from noworse.propose.grids.general import GeneralGrids
from noworse.propose.grids.grid import GridSet, GridSpec
from noworse.rate.soft import Cosine, Kernel
from noworse.tune.seams import made

LIMIT = 20  # ns per weight
STEPS = {"6 bits": 0.08, "2.8 bits": 0.8, "1.3 bits": 1.5}  # in units of the Laplacian's scale


def laplacian(rows: int, columns: int) -> torch.Tensor:
    """Weights of scale 1."""
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(2, rows, columns, generator=generator)
    return -uniform[0].clamp(min=1e-6).log() * (uniform[1] < 0.5).float().mul(2).sub(1)


def nanoseconds(grids: GridSet, step: float, kernel: Kernel, repeats: int) -> float:
    """Median processor time of forward and backward per weight; work of others on the machine does not count."""
    grids.native = False
    grids.log_step.fill_(torch.tensor(step).log())
    grids.rebase()
    out, upstream = torch.empty(grids.count), torch.randn(grids.count)
    times = []
    for _ in range(repeats + 1):
        gradient = upstream.clone()
        begin = time.thread_time()
        grids.quantise(out, kernel)
        grids.gradients(out, gradient, 1e-3, False)
        times.append(time.thread_time() - begin)
    return 1e9 * statistics.median(times[1:]) / grids.count


def rows(run: Run) -> Iterator[Row]:
    """Rows for every kernel at three rates, for a wide kernel, and for what is slower."""
    torch.set_num_threads(1)
    shape, repeats = ((512, 512), 3) if run.quick else ((512, 4608), 9)
    weights = {"w": laplacian(*shape)}
    spec = [GridSpec("w", shape, "float32")]
    kernels = {f"{kernel}, delta 1/4": made("kernel", kernel) for kernel in ("cos", "linear", "triangle")}
    kernels["cos, resolution 64"] = made("kernel", "range")
    for rate, step in STEPS.items():
        for name, kernel in kernels.items():
            spent = nanoseconds(GridSet(spec, weights, 0.5), step, kernel, repeats)
            yield Row(f"{name} at {rate}", spent, "ns/weight", f"<= {LIMIT}")
    slower = {name: (name, "soft") for name in ("log", "exp", "multiscale")}
    slower["official estimate, sampled"] = ("deadzone", "official")
    for name, (transform, rate) in slower.items():
        grids = GeneralGrids(spec, weights, 0.5, made("transform", transform), made("rate", rate))
        yield Row(f"{name} at about 2.8 bits", nanoseconds(grids, 0.8, Cosine(), 2), "ns/weight")


SUITE = Suite("counter", __doc__, {"counter": rows})

if __name__ == "__main__":
    main(SUITE)
