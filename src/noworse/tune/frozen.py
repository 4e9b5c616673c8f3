"""The last phase of tuning, with the integer codes of all weights fixed: the file keeps its size.

What a code stands for still moves: with q fixed, ŵ = sign(q)·(|q| + r − ½)·s has

    ∂ŵ/∂ln s = ŵ            ∂ŵ/∂r = sign(q)·s

Vectors (biases and gains of norms) keep steps and zones, and their values are tuned as before, rounding passed straight
through: they are a small share of a file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from noworse.propose.grids.grid import GridSet
from noworse.tune.adam import Adam
from noworse.tune.tuner import MEASURE_EVERY, Step, Tuner

STEP_RATE, ZONE_RATE, VECTOR_RATE = 0.002, 0.005, 0.02  # of ln s, ln(r − 0.4) and vectors in code units
WARM_UP, FINAL = 5, 0.02  # iterations; share of the rates at the end of their cosine


@dataclass(frozen=True)
class FrozenCodes:
    """Codes of the matrices and kernels among ``grids`` as they are now, held while steps and zones move."""

    grids: GridSet
    codes: dict[int, Tensor]  # by number of the tensor, as a row of the flat vector, float32

    @classmethod
    @torch.no_grad()
    def of(cls, grids: GridSet, values: Tensor) -> FrozenCodes:
        """The codes of all tensors of more than one dimension; ``values`` (N,) is overwritten by ŵ."""
        grids.quantise(values)
        steps, zones = grids.steps().double(), grids.zones().double()
        found = {}
        for k, (begin, end) in enumerate(pairwise(grids.offsets)):
            if len(grids.specs[k].shape) > 1 and grids.specs[k].tuned:
                row = values[begin:end].double()
                found[k] = (row / steps[k] - row.sign() * (zones[k] - 0.5)).round().float()
        return cls(grids, found)

    @torch.no_grad()
    def hold(self) -> None:
        """Put the latent weights in the middle of the bins of their codes, as steps and zones are now."""
        grids = self.grids
        steps, zones = grids.steps(), grids.zones()
        for k, codes in self.codes.items():
            grids.unit[k] = steps[k]
            grids.latent[grids.offsets[k] : grids.offsets[k + 1]] = codes + codes.sign() * (zones[k] - 0.5)

    @torch.no_grad()
    def gradients(self, gradient: Tensor) -> None:
        """Set ``.grad`` of the leaves from ``gradient``, ∂L/∂ŵ (N,), which becomes that of the latents."""
        grids = self.grids
        by_step, by_zone = torch.zeros_like(grids.log_step), torch.zeros_like(grids.log_zone)
        for k, (begin, end) in enumerate(pairwise(grids.offsets)):
            row = gradient[begin:end]
            if k in self.codes:
                by_step[k] = row.dot(grids.weights(k))
                by_zone[k] = row.dot(self.codes[k].sign()) * grids.unit[k]
                row.zero_()
            else:
                row *= grids.unit[k] * bool(grids.specs[k].tuned)
        grids.latent.grad, grids.log_step.grad = gradient, by_step
        grids.log_zone.grad = by_zone * grids.log_zone.exp() * grids.tunes_zones


def tune_frozen(tuner: Tuner, iterations: int, stage: str = "frozen codes") -> None:
    """Tune what codes stand for, and vectors, by the distillation loss for ``iterations``."""
    grids = tuner.grids
    frozen = FrozenCodes.of(grids, tuner.values)
    rates = {"lr_weights": VECTOR_RATE, "lr_steps": STEP_RATE, "lr_zones": ZONE_RATE}
    groups = [{"params": [leaf], "peak": rates[option]} for option, leaf in grids.leaves]
    optimiser = Adam(groups)
    running = 0.0
    for iteration in range(iterations):
        frozen.hold()
        grids.quantise(tuner.values)
        loss = tuner.learn()
        running = loss if iteration == 0 else 0.95 * running + 0.05 * loss
        frozen.gradients(tuner.gradient)
        cosine = 0.5 * (1 + math.cos(math.pi * iteration / iterations))
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * min(1.0, (iteration + 1) / WARM_UP) * (FINAL + (1 - FINAL) * cosine)
        if tuner.scaler.usable:
            optimiser.step()
        if (iteration + 1) % MEASURE_EVERY == 0 or iteration + 1 == iterations:
            size = tuner.hooks.measure()
            tuner.hooks.progress(Step(stage, iteration + 1, iterations, size, size, running, 0.0))
    frozen.hold()
    grids.quantise(tuner.values)
