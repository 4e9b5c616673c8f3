"""Grids of any transform with any estimate of the rate: plain torch, tensor by tensor.

What is defined here is what the fast grids (grid.py) compute by hand for straight lines; this is for everything else:
transforms with curves, and rates of other kinds. It takes several times as long.
"""

from collections.abc import Callable, Mapping
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from noworse.model.device import own_random
from noworse.propose.grids.grid import GridSet, GridSpec
from noworse.propose.grids.transform import Transform, Uniform
from noworse.rate.counter import code_bits
from noworse.rate.soft import Cosine, Kernel, Rate
from noworse.representation import Form, Grid, pack_step
from noworse.run.processes import ALONE, World


class GeneralGrids(GridSet):
    """``GridSet`` with one more leaf, ``trained`` (K·P,): the parameters of the curves.

    ``transform`` is that of tensors of two dimensions or more; biases and other vectors are uniform where it has a
    curve. ``rate`` is what the gradient of the rate is taken of.
    """

    remakes = False

    def __init__(
        self,
        specs: list[GridSpec],
        weights: Mapping[str, Tensor],
        zone: float,
        transform: Transform,
        rate: Rate,
        world: World = ALONE,
    ) -> None:
        super().__init__(specs, weights, zone, transform.tunes_zone, world)
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
        return [self.weights(k), self._trained_of(k)]

    def _trained_of(self, k: int) -> Tensor:
        return self.trained[self._trained_at[k]].to(self.device)

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
        steps, zones, bits = self.steps().to(self.device), self.zones().to(self.device), []
        for k in self.places:
            out[self.rows[k]], codes = self._parts(k, self._leaves_of(k), steps[k], zones[k])
            bits.append(code_bits(codes.round()))
        self.bits = self.shares.of_all(torch.tensor(bits, dtype=torch.float64, device="cpu"))
        self.complete(out)

    def gradients(self, values: Tensor, grad: Tensor, multiplier: float, on_weights: bool) -> None:
        """Set ``.grad`` of the leaves for the loss L + ``multiplier`` · R, given ``grad`` (N,) = ∂L/∂ŵ, overwritten."""
        by_step, by_zone, by_trained = map(torch.zeros_like, (self.log_step, self.log_zone, self.trained))
        grad[self._fixed] = 0
        steps, zones = self.steps().to(self.device), self.zones().to(self.device)
        seed = int(torch.randint(1 << 62, (), device="cpu"))  # rates may draw: what they do, whatever ranks there are
        for k in self.places:
            log_step, zone = torch.zeros_like(zones[k], requires_grad=True), zones[k].clone().requires_grad_()
            leaves = [leaf.clone().requires_grad_() for leaf in self._leaves_of(k)]
            own, codes = self._parts(k, leaves, steps[k] * log_step.exp(), zone)
            inputs = [*leaves, log_step, zone]
            total = (own * grad[self.rows[k]]).sum()
            parts = loss = torch.autograd.grad(total, inputs, retain_graph=True, materialize_grads=True)
            if multiplier:
                with own_random(self.device, seed ^ k):
                    bits = multiplier * self.rate.bits(codes, self._kernel)
                rate = torch.autograd.grad(bits, inputs, materialize_grads=True)
                parts = tuple(a + b for a, b in zip(loss, rate, strict=True))
            grad[self.rows[k]] = (parts if on_weights else loss)[0] * self.unit[k]
            by_trained[self._trained_at[k]], by_step[k], by_zone[k] = parts[1:]
        grad[self._fixed] = 0
        by_step, by_zone, by_trained = map(self.shares.world.sum_, (by_step, by_zone, by_trained))
        self.latent.grad, self.trained.grad = grad[self.shares.part], by_trained
        self.log_step.grad = by_step * self.tuned
        self.log_zone.grad = by_zone * self.log_zone.exp() * (self.tuned & self.tunes_zones)

    @torch.no_grad()
    def _representation(self, k: int, step: Tensor, zone: Tensor, shift: float) -> Grid:
        transform, step, zone = self.transforms[k], step.to(self.device), zone.to(self.device)
        shape = transform.shape(self._trained_of(k), step, self.largest[k])
        form = Form(transform.curve, tuple(pack_step(float(x)) for x in shape))

        def whole() -> Tensor:
            codes = self._parts(k, self._leaves_of(k), step, zone)[1]
            return torch.copysign((codes.abs() - shift).round().clamp(min=0), codes)

        return self.specs[k].grid(self.fetch(k, whole), step, zone, form)
