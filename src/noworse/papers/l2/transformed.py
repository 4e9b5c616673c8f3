"""Grids of any transform, per tensor or per output channel, with any estimate of the rate: plain torch, one by one.

What is defined here is what the fast grids (grid.py) compute by hand for straight lines; this is for everything else:
transforms with curves, rows with steps of their own, and the official rate estimate. It takes several times as long.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from noworse.papers.l2.exact import soft_entropy
from noworse.papers.l2.official import official_bits
from noworse.papers.l2.transforms import TRANSFORMS, Transform
from noworse.propose.grids.grid import GridSet, GridSpec, stored_steps
from noworse.rate.entropy import segment_entropy
from noworse.rate.kernels import Relaxation
from noworse.representation import CHANNEL_UNITS, EDGE_UNITS, Form, Grid, pack_step

DENSE = 1 << 16  # bins that are counted without sorting
NARROWEST = 128  # weights of rows that have steps of their own: one would cost more than it gains in narrower ones


class TransformedGrids(GridSet):
    """``GridSet`` with two more leaves: ``trained`` (K·P,) of the curves and ``log_channel`` (C,) of the rows.

    ``transform`` is that of tensors of two dimensions or more; biases and other vectors are uniform unless it is
    "deadzone". ``rate`` is what the gradient of the rate is taken of: "soft" entropy or an "official" estimate.
    """

    remakes = False

    def __init__(
        self, specs: list[GridSpec], weights: Mapping[str, Tensor], zone: float,
        transform: str, per_channel: bool, rate: str = "soft",
    ) -> None:  # fmt: skip
        super().__init__(specs, weights, zone if TRANSFORMS[transform].tunes_zone else 0.5)
        chosen, vectors = TRANSFORMS[transform], TRANSFORMS["deadzone" if transform == "deadzone" else "uniform"]
        self.transforms = [chosen if len(spec.shape) > 1 else vectors for spec in specs]
        self.tunes_zones = chosen.tunes_zone
        self.rate = rate
        self.trained = torch.cat([torch.tensor(t.start) for t in self.transforms])
        self._trained_at = _ranges([len(t.start) for t in self.transforms])
        rows = [_rows(spec) if per_channel else 0 for spec in specs]
        self.log_channel = torch.zeros(sum(rows))
        self._channels_at = _ranges(rows)
        self._relaxation: Relaxation | None = None

    @property
    def leaves(self) -> list[tuple[str, Tensor]]:
        """Those of all grids, of the curves and of the rows."""
        more = [("lr_zones", self.trained), ("lr_steps", self.log_channel)]
        return super().leaves + [(rate, leaf) for rate, leaf in more if len(leaf)]

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Those of all grids, and what curves and rows have besides."""
        return *super().tensors, self.trained, self.log_channel

    def _leaves_of(self, k: int) -> list[Tensor]:
        """Weights (n,), logarithms of rows' steps (C_k,), and parameters of the curve (P_k,)."""
        return [self.weights(k), self.log_channel[self._channels_at[k]], self.trained[self._trained_at[k]]]

    def _row_numbers(self, k: int, step: Tensor) -> Tensor:
        """What is stored of the rows' steps (C_k,): numbers between −128 and 127."""
        own = stored_steps(step * self.log_channel[self._channels_at[k]].exp())
        return ((own.view(torch.int32) - step.view(torch.int32)) / (CHANNEL_UNITS << 15)).round().clamp(-128, 127).int()

    def _row_steps(self, k: int, step: Tensor, log_channel: Tensor) -> Tensor:
        """Steps (C_k, 1) of the rows, or () of the whole tensor, as stored; gradients pass the rounding."""
        if not len(log_channel):
            return step
        base = step.detach()
        numbers = base.view(torch.int32) + self._row_numbers(k, base) * (CHANNEL_UNITS << 15)
        wanted = step * log_channel.exp()
        return (wanted + (numbers.view(torch.float32) - wanted).detach())[:, None]

    def _parts(self, k: int, leaves: list[Tensor], step: Tensor, zone: Tensor) -> tuple[Tensor, Tensor]:
        """ŵ and signed codes c (n,) of tensor k, differentiable by ``leaves``: w, ln φ and the curve's parameters.

        ŵ has the straight-through gradient of rounding.
        """
        w, log_channel, trained = leaves
        transform: Transform = self.transforms[k]
        steps = self._row_steps(k, step, log_channel)
        rows = w.view(len(log_channel), -1) if len(log_channel) else w
        shape = transform.shape(trained, step, self.largest[k])
        code = transform.code(rows.abs() / steps, zone, shape)
        q = code + (code.round() - code).detach()
        sign = torch.where(rows.detach() < 0, -1.0, 1.0)
        return (sign * steps * transform.decode(q, zone, shape)).reshape(-1), (sign * code).reshape(-1)

    @torch.no_grad()
    def quantise(self, out: Tensor, relaxation: Relaxation | None = None, on_weights: bool = True) -> None:
        """Write ŵ (N,) into ``out`` and refresh ``bits``; the gradient is left to ``gradients``."""
        self._relaxation = relaxation
        steps, zones = self.steps(), self.zones()
        for k in range(len(self.specs)):
            values, codes = self._parts(k, self._leaves_of(k), steps[k], zones[k])
            out[self.offsets[k] : self.offsets[k + 1]] = values
            self.bits[k] = _hard_bits(codes.round())

    def gradients(self, values: Tensor, grad: Tensor, multiplier: float, on_weights: bool) -> None:
        """Set ``.grad`` of the leaves for the loss L + ``multiplier`` · R, given ``grad`` (N,) = ∂L/∂ŵ."""
        found = [torch.zeros_like(leaf) for leaf in (self.latent, self.log_step, self.log_zone, self.trained)]
        by_weight, by_step, by_zone, by_trained = found
        by_channel = torch.zeros_like(self.log_channel)
        steps, zones = self.steps(), self.zones()
        for k in range(len(self.specs)):
            rows = slice(self.offsets[k], self.offsets[k + 1])
            log_step, zone = torch.zeros(()).requires_grad_(), zones[k].clone().requires_grad_()
            leaves = [leaf.clone().requires_grad_() for leaf in self._leaves_of(k)]
            step = steps[k] * log_step.exp()
            own, codes = self._parts(k, leaves, step, zone)
            inputs = [*leaves, log_step, zone]
            loss = torch.autograd.grad((own * grad[rows]).sum(), inputs, allow_unused=True, retain_graph=True)
            rate: Sequence[Tensor | None] = [None] * len(inputs)
            if multiplier:
                rate = torch.autograd.grad(multiplier * self._bits(codes), inputs, allow_unused=True)
            w, channel, trained, ln_s, r = (_sum(a, b, leaf) for a, b, leaf in zip(loss, rate, inputs, strict=True))
            by_weight[rows] = (w if on_weights else _sum(loss[0], None, leaves[0])) * self.unit[k]
            by_channel[self._channels_at[k]], by_trained[self._trained_at[k]] = channel, trained
            by_step[k], by_zone[k] = ln_s, r
        self.latent.grad, self.trained.grad, self.log_channel.grad = by_weight, by_trained, by_channel
        self.log_step.grad = by_step * self.tuned
        self.log_zone.grad = by_zone * self.log_zone.exp() * (self.tuned & self.tunes_zones)

    def _bits(self, codes: Tensor) -> Tensor:
        relaxation = self._relaxation or Relaxation()
        if self.rate != "soft":
            resolution, sampled = relaxation.resolution or 64, self.rate == "official"
            return official_bits(codes, torch.default_generator, relaxation.kernel, resolution, sampled)
        return soft_entropy(codes, relaxation)

    @torch.no_grad()
    def _representation(self, k: int, step: Tensor, zone: Tensor, shift: float) -> Grid:
        spec, codes = self.specs[k], self._parts(k, self._leaves_of(k), step, zone)[1]
        magnitudes = (codes.abs() - shift).round().clamp(min=0)
        whole = spec.unflatten(torch.copysign(magnitudes, codes).int()).reshape(-1).numpy()
        edge = round(float(zone) * EDGE_UNITS)
        return Grid(whole, pack_step(float(step)), edge, spec.shape, spec.dtype, self._form(k, step))

    def _form(self, k: int, step: Tensor) -> Form:
        transform, trained = self.transforms[k], self.trained[self._trained_at[k]]
        shape = transform.shape(trained, step, self.largest[k])
        channels = self._row_numbers(k, step)
        numbers = bytes(int(c) & 0xFF for c in channels) if bool((channels != 0).any()) else b""
        return Form(transform.curve, tuple(pack_step(float(x)) for x in shape), numbers)


def _ranges(lengths: list[int]) -> list[slice]:
    """Consecutive slices of these lengths."""
    ends = torch.tensor([0, *lengths]).cumsum(0).tolist()
    return [slice(a, b) for a, b in pairwise(ends)]


def _hard_bits(q: Tensor) -> Tensor:
    """Ideal code length n·H in bits of symbols (n,)."""
    low, high = float(q.min()), float(q.max())
    few = high - low < DENSE
    counts = torch.bincount((q - low).long()) if few else torch.unique(q, return_counts=True)[1]
    return segment_entropy(counts, torch.zeros(len(counts), dtype=torch.int64))[0]


def _rows(spec: GridSpec) -> int:
    """Output channels of a tensor that have steps of their own; 0 for vectors and narrow matrices."""
    wide = len(spec.shape) > 1 and torch.Size(spec.shape[1:]).numel() >= NARROWEST
    return spec.shape[0] if wide else 0


def _sum(a: Tensor | None, b: Tensor | None, like: Tensor) -> Tensor:
    """a + b, where None stands for zero."""
    return (torch.zeros_like(like) if a is None else a) + (0.0 if b is None else b)
