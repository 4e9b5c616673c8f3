"""Proposals: each weight at several bit-widths, with what it is predicted to cost in loss.

A proposal is measured as it would be written. Its default cost is the true change of the distillation loss when this
one weight is replaced; the changes dz of the outputs that come with it give what two proposals cost together beyond
their sum, dz_iᵀ A dz_k with A the curvature of the loss in the outputs z, at no further pass through the net.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from noworse.model.device import double, seeded
from noworse.propose.bits.rounding import Reach, Rounded, fit_steps, round_weights
from noworse.propose.bits.sites import Site
from noworse.propose.grids.compensated import Layer
from noworse.propose.grids.means import output_means, with_means
from noworse.representation import Representation
from noworse.run.resume import NOWHERE, Work
from noworse.task.data import Batch
from noworse.task.distances import Distance

FULL = 32  # bits of a weight that is not quantised
SKETCH = 1 << 14  # numbers that output changes are folded into where there are more
TRUE = "loss"  # true_costs
COSTS = (TRUE, "mse", "trace", "fisher")  # the others, simple_costs, are yardsticks


@dataclass(frozen=True, eq=False)
class Proposal:
    """One way to write the weight ``name``: rounded, in any representation of float32, or as it is (None)."""

    name: str
    written: Rounded | Representation | None
    bits: float  # of all codes together

    @property
    def width(self) -> float:
        """Bits of a weight."""
        if isinstance(self.written, Representation):
            return round(self.bits / max(self.written.size, 1), 2)
        return self.written.bits if self.written else FULL

    @property
    def rounding(self) -> str:
        """How the weight is rounded: "adaptive", "nearest", "none", or the kind of its representation."""
        if isinstance(self.written, Representation):
            return self.written.label
        return self.written.rounding if self.written else "none"

    @property
    def representation(self) -> Representation | None:
        """The tensor as a file holds it; None where the weight stays as it is."""
        return self.written.grid() if isinstance(self.written, Rounded) else self.written

    def decode(self) -> Tensor:
        """Return ŵ in float32, bit for bit what a file gives back; there is none where the weight stays as it is."""
        assert self.written is not None
        found = self.written.decode()
        return found if isinstance(found, Tensor) else torch.from_numpy(found)


def propose(
    site: Site, levels: Sequence[int], moments: Tensor | None, reach: Reach | None = None, per_channel: bool = True
) -> list[Proposal]:
    """Return the weight at every level and as it is; rounded adaptively for second ``moments`` of its inputs if known.

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
        found.append(Proposal(site.key, round_weights(weight, bits, steps, layer), bits * weight.numel()))
    return [*found, Proposal(site.key, None, FULL * weight.numel())]


def simple_costs(
    kind: str, sites: Mapping[str, Site], proposals: Sequence[Proposal], diagonals: Mapping[str, Tensor]
) -> list[float]:
    """Return ½ Σ F δ² of each proposal's error δ, for Fisher ``diagonals`` F of the weights by name ("fisher").

    F is its mean for "trace" (HAWQ-V2), and 1 for "mse".
    """

    def cost(proposal: Proposal) -> float:
        if proposal.written is None:
            return 0.0
        weight = sites[proposal.name].weight.detach()
        square = double(proposal.decode().to(weight) - weight).square()
        diagonal = square.new_ones(()) if kind == "mse" else diagonals.get(proposal.name, square.new_zeros(()))
        diagonal = diagonal.mean() if kind == "trace" else diagonal
        return 0.5 * float((diagonal * square).sum(dtype=torch.float64))

    return [cost(proposal) for proposal in proposals]


@torch.no_grad()
def true_costs(
    model: nn.Module,
    forward: Callable[[nn.Module, Batch], Tensor],
    batches: Sequence[Batch],
    sites: Mapping[str, Site],
    proposals: Sequence[Proposal],
    distance: Distance,
    work: Work = NOWHERE,
) -> tuple[list[float], NDArray[np.float64]]:
    """Return the mean distillation loss of each proposal alone, and (n, n) what two cost together beyond their sum.

    Layers keep the means of their outputs on each batch, as biases will see to in the end. ``work`` keeps them.
    """
    layers = {name for site in sites.values() for name in site.layers}
    runs = [functools.partial(forward, model, batch) for batch in batches]
    known = [(run, *output_means(model, layers, run)) for run in runs]
    samples = sum(len(outputs) for _, outputs, _ in known)

    def measured(proposal: Proposal) -> list[Tensor]:
        site = sites[proposal.name]
        before = site.weight.detach().clone()
        site.weight.copy_(proposal.decode())
        try:
            pairs = [(with_means(model, site.layers, means, run), z) for run, z, means in known]
        finally:
            site.weight.copy_(before)
        pieces = [_folded(distance.curved(z, out - z)).flatten() for out, z in pairs]
        mean = double(torch.cat([distance(out, z) for out, z in pairs])).mean()
        return [mean.cpu(), torch.cat(pieces).float().cpu() / samples**0.5]

    costs, changes = [0.0] * len(proposals), dict[int, Tensor]()
    for k, proposal in enumerate(proposals):
        if proposal.written is not None:
            mean, changes[k] = work.keep(f"cost {k}", functools.partial(measured, proposal))
            costs[k] = float(mean)
    nothing = torch.zeros_like(next(iter(changes.values())))
    stacked = torch.stack([changes.get(k, nothing) for k in range(len(proposals))])
    return costs, (stacked @ stacked.T).double().numpy()


def _folded(vectors: Tensor) -> Tensor:
    """Rows (B, n), folded with random signs so that all of them have ``SKETCH`` numbers at most: (B', m).

    Inner products stay right on average.
    """
    most = max(1, SKETCH // len(vectors))
    if vectors.shape[1] <= most:
        return vectors
    generator = seeded(vectors.device, vectors.shape[1])
    draw = functools.partial(torch.randint, size=(vectors.shape[1],), generator=generator, device=vectors.device)
    place, signs = draw(most), draw(2).mul_(2).sub_(1)
    return torch.zeros(len(vectors), most, device=vectors.device).index_add_(1, place, vectors * signs)
