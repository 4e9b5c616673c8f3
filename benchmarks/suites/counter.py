"""What transform and counter cost per weight, on one thread: all kernels, widths and transforms, nothing sampled.

Forward is ``quantise`` (values, hard bits, soft entropy), backward ``gradients`` (by
weights, steps and zones). The official estimate and the transforms with curves are there for comparison.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import torch

from benchmarks.harness import Row, Run, Suite, main
from noworse.papers.l2.transformed import TransformedGrids
from noworse.papers.l2.transforms import TRANSFORMS
from noworse.propose.grids.grid import GridSet, GridSpec
from noworse.rate.kernels import KERNELS, Relaxation

LIMIT = 20  # ns per weight
STEPS = {"6 bits": 0.08, "2.8 bits": 0.8, "1.3 bits": 1.5}  # in units of the Laplacian's scale


def laplacian(rows: int, columns: int) -> torch.Tensor:
    """Weights of scale 1."""
    generator = torch.Generator().manual_seed(0)
    uniform = torch.rand(2, rows, columns, generator=generator)
    return -uniform[0].clamp(min=1e-6).log() * (uniform[1] < 0.5).float().mul(2).sub(1)


def nanoseconds(grids: GridSet, step: float, relaxation: Relaxation, repeats: int) -> float:
    """Median processor time of forward and backward per weight; work of others on the machine does not count."""
    grids.log_step.fill_(torch.tensor(step).log())
    grids.rebase()
    out, upstream = torch.empty(grids.count), torch.randn(grids.count)
    times = []
    for _ in range(repeats + 1):
        gradient = upstream.clone()
        begin = time.thread_time()
        grids.quantise(out, relaxation)
        grids.gradients(out, gradient, 1e-3, False)
        times.append(time.thread_time() - begin)
    return 1e9 * statistics.median(times[1:]) / grids.count


def rows(run: Run) -> Iterator[Row]:
    """Rows for every kernel at three rates, for a wide kernel, and for what is slower."""
    torch.set_num_threads(1)
    shape, repeats = ((512, 512), 3) if run.quick else ((512, 4608), 9)
    weights = {"w": laplacian(*shape)}
    spec = [GridSpec("w", shape, "float32")]
    relaxations = {f"{kernel}, delta 1/4": Relaxation(kernel) for kernel in KERNELS}
    relaxations["cos, resolution 64"] = Relaxation("cos", resolution=64)
    for rate, step in STEPS.items():
        for name, relaxation in relaxations.items():
            spent = nanoseconds(GridSet(spec, weights, 0.5), step, relaxation, repeats)
            yield Row(f"{name} at {rate}", spent, "ns/weight", f"<= {LIMIT}")
    slower = {name: (name, False, "soft") for name in TRANSFORMS if TRANSFORMS[name].curve != "linear"}
    slower |= {"per channel": ("deadzone", True, "soft"), "official estimate, sampled": ("deadzone", False, "official")}
    for name, arguments in slower.items():
        spent = nanoseconds(TransformedGrids(spec, weights, 0.5, *arguments), 0.8, Relaxation(), 2)
        yield Row(f"{name} at about 2.8 bits", spent, "ns/weight")


SUITE = Suite("counter", __doc__, {"counter": rows})

if __name__ == "__main__":
    main(SUITE)
