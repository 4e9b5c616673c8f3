"""Proposals: each weight at several bit-widths, with what it is predicted to cost in loss.

A proposal is measured as it would be written. Its default cost is the true change of the distillation loss when this
one weight is replaced; the changes dz of the outputs that come with it give what two proposals cost together beyond
their sum, dz_iᵀ A dz_k with A the curvature of the loss in the outputs z, at no further pass through the net.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from noworse.propose.bits.rounding import Reach, Rounded, fit_steps, round_weights
from noworse.propose.bits.sites import Site
from noworse.propose.grids.compensated import Layer
from noworse.propose.grids.means import output_means, with_means
from noworse.rate.entropy import code_bits
from noworse.representation import Grid
from noworse.task.data import Batch
from noworse.task.distances import Distiller, PartsDistiller

FULL = 32  # bits of a weight that is not quantised
SKETCH = 1 << 14  # numbers that output changes are folded into where there are more


@dataclass(frozen=True, eq=False)
class Proposal:
    """One way to write the weight ``name``: None as ``rounded`` leaves it as it is."""

    name: str
    rounded: Rounded | None
    bits: float  # of all codes together
    cost: float = 0.0  # predicted loss, nats

    @property
    def width(self) -> int:
        """Bits of a weight."""
        return self.rounded.bits if self.rounded else FULL

    @property
    def coded_bits(self) -> float:
        """Ideal code length of the codes, n·H in bits: what an entropy coder takes, about."""
        if self.rounded is None:
            return self.bits
        return code_bits(self.rounded.codes)

    @property
    def representation(self) -> Grid | None:
        """What would be written."""
        return self.rounded.grid() if self.rounded else None


def propose(
    site: Site, levels: Sequence[int], moments: Tensor | None, reach: Reach | None = None, per_channel: bool = True
) -> list[Proposal]:
    """The weight at every level and as it is; rounded adaptively where second ``moments`` of its inputs are known.

    Steps are those of least error, or of a ``reach``.
    """
    weight = site.weight.detach()
    layer = energy = None
    if moments is not None:
        layer = Layer(weight.shape, moments)
        groups = len(moments) // layer.blocks
        energy = moments.diagonal(dim1=1, dim2=2).reshape(groups, -1).repeat_interleave(len(weight) // groups, 0)
    found = []
    for bits in levels:
        steps = fit_steps(weight.flatten(1), bits, per_channel, reach, energy)
        rounded = round_weights(weight, bits, steps, "nearest" if layer is None else "adaptive", layer)
        found.append(Proposal(site.key, rounded, rounded.size))
    return [*found, Proposal(site.key, None, FULL * weight.numel())]


def curved(outputs: Tensor, change: Tensor, distiller: Distiller) -> Tensor:
    """u (B, n) with uᵀu = dzᵀ A dz for each sample, for outputs z and their changes dz (B, ..., K)."""
    if isinstance(distiller, PartsDistiller):
        parts = zip(torch.split(outputs, distiller.widths, -1), torch.split(change, distiller.widths, -1),
                    distiller.distillers, strict=True)  # fmt: skip
        return torch.cat([curved(z, dz, inner) for z, dz, inner in parts], 1)
    u: Tensor
    positions = max(1, outputs[0].numel() // outputs.shape[-1])
    if distiller.kind == "kl":
        p = (outputs / distiller.temperature).softmax(-1)
        u = p.sqrt() * (change - (p * change).sum(-1, keepdim=True))
    elif distiller.kind == "mse":
        u = change * (2 / (distiller.scale * outputs.shape[-1])) ** 0.5
    else:
        unit = torch.nn.functional.normalize(outputs, dim=-1)
        u = (change - unit * (unit * change).sum(-1, keepdim=True)) / outputs.norm(dim=-1, keepdim=True)
    return torch.div(u.flatten(1), positions**0.5)


class OutputChanges:
    """What changes of weights do to the outputs on some batches: losses alone, and in pairs."""

    def __init__(self, originals: Sequence[Tensor], distiller: Distiller) -> None:
        self.originals, self.distiller = originals, distiller
        self.samples = sum(map(len, originals))
        self.costs: list[float] = []
        self.vectors: list[Tensor | None] = []

    def add(self, outputs: Sequence[Tensor] | None) -> None:
        """The outputs with one change; None: there is none."""
        if outputs is None:
            self.costs.append(0.0)
            self.vectors.append(None)
            return
        pairs = list(zip(outputs, self.originals, strict=True))
        self.costs.append(float(torch.cat([self.distiller(out, z) for out, z in pairs]).double().mean()))
        pieces = [_fold(curved(z, out - z, self.distiller)).flatten() for out, z in pairs]
        self.vectors.append(torch.cat(pieces).float() / self.samples**0.5)

    def pairs(self) -> NDArray[np.float64]:
        """(n, n): what two changes cost together beyond the sum of their costs."""
        size = next(len(v) for v in self.vectors if v is not None)
        stacked = torch.stack([torch.zeros(size) if v is None else v for v in self.vectors])
        return (stacked @ stacked.T).double().numpy()


@torch.no_grad()
def true_costs(
    model: nn.Module,
    forward: Callable[[nn.Module, Batch], Tensor],
    batches: Sequence[Batch],
    sites: Mapping[str, Site],
    proposals: Sequence[Proposal],
    distiller: Distiller,
) -> tuple[list[float], NDArray[np.float64]]:
    """Mean distillation loss of each proposal alone, and (n, n) what two cost together beyond their sum.

    Layers keep the means of their outputs on each batch, as biases will see to in the end.
    """
    layers = {name for site in sites.values() for name in site.layers}
    seen = [output_means(model, layers, functools.partial(forward, model, batch)) for batch in batches]
    changes = OutputChanges([outputs for outputs, _ in seen], distiller)
    for proposal in proposals:
        if proposal.rounded is None:
            changes.add(None)
            continue
        weight = sites[proposal.name].weight
        before = weight.detach().clone()
        weight.copy_(proposal.rounded.decode())
        try:
            names = sites[proposal.name].layers
            runs = (functools.partial(forward, model, batch) for batch in batches)
            changes.add([with_means(model, names, means, run) for (_, means), run in zip(seen, runs, strict=True)])
        finally:
            weight.copy_(before)
    return changes.costs, changes.pairs()


def _fold(vectors: Tensor) -> Tensor:
    """Rows (B, n), folded with random signs so that all of them have ``SKETCH`` numbers at most: (B', m).

    Inner products stay right on average.
    """
    most = max(1, SKETCH // len(vectors))
    if vectors.shape[1] <= most:
        return vectors
    generator = torch.Generator().manual_seed(vectors.shape[1])
    place = torch.randint(most, (vectors.shape[1],), generator=generator)
    signs = torch.randint(2, (vectors.shape[1],), generator=generator).mul_(2).sub_(1)
    return torch.zeros(len(vectors), most).index_add_(1, place, vectors * signs)
