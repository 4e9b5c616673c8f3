"""Steps at the start from one allocation over all tensors, by measured losses instead of mean curvatures.

Steps of equal slope trust that a tensor's loss is ½ F s²/12 for each weight: true for small steps. Here every matrix is
proposed at several steps around that, each with the bits of its codes and the distillation loss that it costs alone and
in pairs; the knapsack of ``quantize`` takes one each. The choice is handed on as the sensitivities that make its steps
those of equal slope, so that whatever starts from these starts from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from noworse.allocate.knapsack import Choices, allocate
from noworse.propose.bits.proposals import OutputChanges
from noworse.propose.grids.grid import GridSet
from noworse.propose.grids.start import start_at

OCTAVES = (-1.0, -0.5, 0.0, 0.5, 1.0)  # steps that are proposed, relative to equal slope
EQUAL = OCTAVES.index(0.0)


@torch.no_grad()
def allocated(
    grids: GridSet,
    sensitivity: Mapping[str, float],
    bits: float,
    scratch: Tensor,
    run: Callable[[], Sequence[Tensor]],
    changes: OutputChanges,
) -> dict[str, float]:
    """Sensitivities whose steps of equal slope are those of the best allocation within ``bits`` bits.

    ``run()`` gives the outputs of the net whose weights are ``scratch`` (N,); ``changes`` holds those of the original.
    The grids are left at the steps of equal slope for the given ``sensitivity``.
    """
    start_at(grids, sensitivity, bits, scratch)
    proposed = [k for k, spec in enumerate(grids.specs) if spec.tuned and len(spec.shape) > 1]
    if not proposed:
        return dict(sensitivity)
    middle = grids.log_step.clone()
    steps, sizes, decoded = [], [], []
    for octave in OCTAVES:
        grids.log_step.copy_(middle + octave * math.log(2) * grids.tuned)
        grids.quantise(scratch)
        steps.append(grids.steps())
        sizes.append(grids.bits.clone())
        decoded.append(scratch.clone())
    grids.log_step.copy_(middle)
    exact = torch.cat([grids.weights(k) for k in range(len(grids.specs))])
    for k in proposed:
        rows = slice(grids.offsets[k], grids.offsets[k + 1])
        for values in decoded:
            scratch.copy_(exact)
            scratch[rows] = values[rows]
            changes.add(run())
    count = len(OCTAVES)
    costs = [changes.costs[count * i : count * (i + 1)] for i in range(len(proposed))]
    code_bits = [[float(size[k]) for size in sizes] for k in proposed]
    chosen = allocate(Choices(costs, code_bits, changes.pairs()), sum(row[EQUAL] for row in code_bits))
    names, weights = [grids.specs[k].name for k in proposed], [grids.sizes[k] for k in proposed]
    before = [float(steps[EQUAL][k]) for k in proposed]
    slopes = [n * sensitivity[name] * step**2 for n, name, step in zip(weights, names, before, strict=True)]
    level = sum(slopes) / sum(weights)
    taken = [float(steps[j][k]) for k, j in zip(proposed, chosen, strict=True)]
    return {**sensitivity, **{name: level / step**2 for name, step in zip(names, taken, strict=True)}}
