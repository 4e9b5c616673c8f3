"""Grids of any transform with any estimate of the rate: plain torch, tensor by tensor.

What is defined here is what the fast grids (grid.py) compute by hand for straight lines; this is for everything else:
transforms with curves, and rates of other kinds. It takes several times as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from noworse.propose.grids.grid import GridSet, GridSpec
from noworse.propose.grids.transform import Transform, Uniform
from noworse.rate.entropy import segment_entropy
from noworse.rate.kernels import Cosine, Kernel
from noworse.rate.soft import Rate
from noworse.representation import EDGE_UNITS, Form, Grid, pack_step

DENSE = 1 << 16  # bins that are counted without sorting


class GeneralGrids(GridSet):
    """``GridSet`` with one more leaf, ``trained`` (K·P,): the parameters of the curves.

    ``transform`` is that of tensors of two dimensions or more; biases and other vectors are uniform where it has a
    curve. ``rate`` is what the gradient of the rate is taken of.
    """

    remakes = False

    def __init__(
        self, specs: list[GridSpec], weights: Mapping[str, Tensor], zone: float, transform: Transform, rate: Rate
    ) -> None:
        super().__init__(specs, weights, zone if transform.tunes_zone else 0.5)
        vectors = transform if transform.straight else Uniform()
        self.transforms = [transform if len(spec.shape) > 1 else vectors for spec in specs]
        self.tunes_zones, self.straight = transform.tunes_zone, transform.straight
        self.rate = rate
        self.trained = torch.cat([torch.tensor(t.start) for t in self.transforms])
        ends = torch.tensor([0, *(len(t.start) for t in self.transforms)]).cumsum(0).tolist()
        self._trained_at = [slice(a, b) for a, b in pairwise(ends)]
        self._kernel: Kernel = Cosine()

    @property
    def leaves(self) -> list[tuple[str, Tensor]]:
        """Those of all grids, and of the curves."""
        return super().leaves + ([("lr_zones", self.trained)] if len(self.trained) else [])

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Those of all grids, and what curves have besides."""
        return *super().tensors, self.trained

    def _leaves_of(self, k: int) -> list[Tensor]:
        """Weights (n,) and parameters of the curve (P_k,)."""
        return [self.weights(k), self.trained[self._trained_at[k]]]

    def _parts(self, k: int, leaves: list[Tensor], step: Tensor, zone: Tensor) -> tuple[Tensor, Tensor]:
        """ŵ and signed codes c (n,) of tensor k, differentiable by ``leaves``: w and the curve's parameters.

        ŵ has the straight-through gradient of rounding.
        """
        w, trained = leaves
        transform = self.transforms[k]
        shape = transform.shape(trained, step, self.largest[k])
        code = transform.code(w.abs() / step, zone, shape)
        q = code + (code.round() - code).detach()
        sign = torch.where(w.detach() < 0, -1.0, 1.0)
        return sign * step * transform.decode(q, zone, shape), sign * code

    @torch.no_grad()
    def quantise(self, out: Tensor, kernel: Kernel | None = None, on_weights: bool = True) -> None:
        """Write ŵ (N,) into ``out`` and refresh ``bits``; the gradient is left to ``gradients``."""
        self._kernel = kernel or self._kernel
        steps, zones = self.steps(), self.zones()
        for k in range(len(self.specs)):
            values, codes = self._parts(k, self._leaves_of(k), steps[k], zones[k])
            out[self.offsets[k] : self.offsets[k + 1]] = values
            self.bits[k] = _hard_bits(codes.round())

    def gradients(self, values: Tensor, grad: Tensor, multiplier: float, on_weights: bool) -> None:
        """Set ``.grad`` of the leaves for the loss L + ``multiplier`` · R, given ``grad`` (N,) = ∂L/∂ŵ."""
        found = [torch.zeros_like(leaf) for leaf in (self.latent, self.log_step, self.log_zone, self.trained)]
        by_weight, by_step, by_zone, by_trained = found
        steps, zones = self.steps(), self.zones()
        for k in range(len(self.specs)):
            rows = slice(self.offsets[k], self.offsets[k + 1])
            log_step, zone = torch.zeros(()).requires_grad_(), zones[k].clone().requires_grad_()
            leaves = [leaf.clone().requires_grad_() for leaf in self._leaves_of(k)]
            own, codes = self._parts(k, leaves, steps[k] * log_step.exp(), zone)
            inputs = [*leaves, log_step, zone]
            loss = torch.autograd.grad((own * grad[rows]).sum(), inputs, allow_unused=True, retain_graph=True)
            rate: Sequence[Tensor | None] = [None] * len(inputs)
            if multiplier:
                bits = self.rate.bits(codes, self._kernel)
                rate = torch.autograd.grad(multiplier * bits, inputs, allow_unused=True)
            w, trained, ln_s, r = (_sum(a, b, leaf) for a, b, leaf in zip(loss, rate, inputs, strict=True))
            by_weight[rows] = (w if on_weights else _sum(loss[0], None, leaves[0])) * self.unit[k]
            by_trained[self._trained_at[k]] = trained
            by_step[k], by_zone[k] = ln_s, r
        self.latent.grad, self.trained.grad = by_weight, by_trained
        self.log_step.grad = by_step * self.tuned
        self.log_zone.grad = by_zone * self.log_zone.exp() * (self.tuned & self.tunes_zones)

    @torch.no_grad()
    def _representation(self, k: int, step: Tensor, zone: Tensor, shift: float) -> Grid:
        spec, codes = self.specs[k], self._parts(k, self._leaves_of(k), step, zone)[1]
        magnitudes = (codes.abs() - shift).round().clamp(min=0)
        whole = spec.unflatten(torch.copysign(magnitudes, codes).int()).reshape(-1).numpy()
        shape = self.transforms[k].shape(self.trained[self._trained_at[k]], step, self.largest[k])
        form = Form(self.transforms[k].curve, tuple(pack_step(float(x)) for x in shape))
        return Grid(whole, pack_step(float(step)), round(float(zone) * EDGE_UNITS), spec.shape, spec.dtype, form)


def _hard_bits(q: Tensor) -> Tensor:
    """Ideal code length n·H in bits of symbols (n,)."""
    low, high = float(q.min()), float(q.max())
    few = high - low < DENSE
    counts = torch.bincount((q - low).long()) if few else torch.unique(q, return_counts=True)[1]
    return segment_entropy(counts, torch.zeros(len(counts), dtype=torch.int64))[0]


def _sum(a: Tensor | None, b: Tensor | None, like: Tensor) -> Tensor:
    """a + b, where None stands for zero."""
    return (torch.zeros_like(like) if a is None else a) + (0.0 if b is None else b)
