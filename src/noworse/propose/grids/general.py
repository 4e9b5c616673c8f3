"""Grids of any transform with any estimate of the rate: plain torch, tensor by tensor.

What is defined here is what the fast grids (grid.py) compute by hand for straight lines; this is for everything else:
transforms with curves, and rates of other kinds. It takes several times as long.
"""

from collections.abc import Callable, Mapping
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from noworse.propose.grids.grid import GridSet, GridSpec
from noworse.propose.grids.transform import Transform, Uniform
from noworse.rate.counter import code_bits
from noworse.rate.soft import Cosine, Kernel, Rate
from noworse.representation import Form, Grid, pack_step


class GeneralGrids(GridSet):
    """``GridSet`` with one more leaf, ``trained`` (K·P,): the parameters of the curves.

    ``transform`` is that of tensors of two dimensions or more; biases and other vectors are uniform where it has a
    curve. ``rate`` is what the gradient of the rate is taken of.
    """

    remakes = False

    def __init__(
        self, specs: list[GridSpec], weights: Mapping[str, Tensor], zone: float, transform: Transform, rate: Rate
    ) -> None:
        super().__init__(specs, weights, zone, transform.tunes_zone)
        vectors = transform if transform.straight else Uniform()
        self.transforms = [transform if len(spec.shape) > 1 else vectors for spec in specs]
        self.straight, self.rate = transform.straight, rate
        self.trained = torch.tensor([value for t in self.transforms for value in t.start], device="cpu")
        self._trained_at = [slice(*ends) for ends in pairwise([0, *accumulate(len(t.start) for t in self.transforms)])]
        self._kernel: Kernel = Cosine()

    @property
    def leaves(self) -> list[tuple[str, Tensor]]:
        """The leaves of all grids, and the parameters of the curves."""
        return super().leaves + ([("lr_zones", self.trained)] if len(self.trained) else [])

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All that is changed in tuning, the parameters of the curves included."""
        return *super().tensors, self.trained

    def _leaves_of(self, k: int) -> list[Tensor]:
        """Weights (n,) and parameters of the curve (P_k,)."""
        return [self.weights(k), self.trained[self._trained_at[k]].to(self.device)]

    def _parts(self, k: int, leaves: list[Tensor], step: Tensor, zone: Tensor) -> tuple[Tensor, Tensor]:
        """ŵ, straight through its rounding, and signed codes c (n,) of tensor k, differentiable by ``leaves``."""
        w, trained = leaves
        transform = self.transforms[k]
        shape = transform.shape(trained, step, self.largest[k])
        code = transform.code(w.abs() / step, zone, shape)
        q = code + (code.round() - code).detach()
        sign = torch.where(w.detach() < 0, -1.0, 1.0)
        return sign * step * transform.decode(q, zone, shape), sign * code

    def meter(self, scratch: Tensor) -> Callable[[], Tensor]:
        """Return a function that rounds all weights as they are then, and tells ``bits``."""

        def measure() -> Tensor:
            self.quantise(scratch)
            return self.bits

        return measure

    @torch.no_grad()
    def quantise(self, out: Tensor, kernel: Kernel | None = None, on_weights: bool = True) -> None:
        """Write ŵ (N,) into ``out`` and refresh ``bits``; the gradient is left to ``gradients``."""
        self._kernel = kernel or self._kernel
        for k, (step, zone) in enumerate(zip(self.steps().to(self.device), self.zones().to(self.device), strict=True)):
            out[self.rows[k]], codes = self._parts(k, self._leaves_of(k), step, zone)
            self.bits[k] = code_bits(codes.round())
        self.put_outliers(out)

    def gradients(self, values: Tensor, grad: Tensor, multiplier: float, on_weights: bool) -> None:
        """Set ``.grad`` of the leaves for the loss L + ``multiplier`` · R, given ``grad`` (N,) = ∂L/∂ŵ."""
        found = [torch.zeros_like(leaf) for leaf in (self.latent, self.log_step, self.log_zone, self.trained)]
        by_weight, by_step, by_zone, by_trained = found
        grad[self._fixed] = 0
        steps, zones = self.steps().to(self.device), self.zones().to(self.device)
        for k, rows in enumerate(self.rows):
            log_step, zone = torch.zeros_like(zones[k], requires_grad=True), zones[k].clone().requires_grad_()
            leaves = [leaf.clone().requires_grad_() for leaf in self._leaves_of(k)]
            own, codes = self._parts(k, leaves, steps[k] * log_step.exp(), zone)
            inputs = [*leaves, log_step, zone]
            total = (own * grad[rows]).sum()
            parts = loss = torch.autograd.grad(total, inputs, retain_graph=True, materialize_grads=True)
            if multiplier:
                bits = multiplier * self.rate.bits(codes, self._kernel)
                rate = torch.autograd.grad(bits, inputs, materialize_grads=True)
                parts = tuple(a + b for a, b in zip(loss, rate, strict=True))
            by_weight[rows] = (parts if on_weights else loss)[0] * self.unit[k]
            by_trained[self._trained_at[k]], by_step[k], by_zone[k] = parts[1:]
        by_weight[self._fixed] = 0
        self.latent.grad, self.trained.grad = by_weight, by_trained
        self.log_step.grad = by_step * self.tuned
        self.log_zone.grad = by_zone * self.log_zone.exp() * (self.tuned & self.tunes_zones)

    @torch.no_grad()
    def _representation(self, k: int, step: Tensor, zone: Tensor, shift: float) -> Grid:
        transform, leaves = self.transforms[k], self._leaves_of(k)
        step, zone = step.to(self.device), zone.to(self.device)
        codes = self._parts(k, leaves, step, zone)[1]
        shape = transform.shape(leaves[1], step, self.largest[k])
        form = Form(transform.curve, tuple(pack_step(float(x)) for x in shape))
        whole = torch.copysign((codes.abs() - shift).round().clamp(min=0), codes)
        return self.specs[k].grid(whole, step, zone, form)
