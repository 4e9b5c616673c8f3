"""Other costs of a proposal than the true one, as yardsticks: squared error, and curvature as others estimate it.

    mse       Σ δ²        trace     ½ F̄ Σ δ², F̄ the mean of the Fisher diagonal (HAWQ-V2)
    fisher    ½ Σ F δ², F its diagonal
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from noworse.propose.bits.proposals import Proposal
from noworse.propose.bits.sites import Site
from noworse.task.distances import Distiller

TRUE = "loss"  # proposals.py: true_costs
COSTS = (TRUE, "mse", "trace", "fisher")


def fisher_diagonals(
    sites: Mapping[str, Site], outputs: Iterable[tuple[Tensor, int]], distiller: Distiller, seed: int
) -> dict[str, Tensor]:
    """F = E[(∂ℓ/∂w)²] of each weight, from sampled probes on ``outputs`` (B, ..., K) with their graph, and B."""
    generator = torch.Generator().manual_seed(seed)
    totals = {key: torch.zeros_like(site.weight) for key, site in sites.items()}
    samples = 0
    for batch_outputs, size in outputs:
        samples += size
        probe = distiller.probe(batch_outputs, generator)
        leaves = [site.weight for site in sites.values()]
        for total, gradient in zip(totals.values(), torch.autograd.grad(probe, leaves, allow_unused=True), strict=True):
            if gradient is not None:
                total += gradient.square()
    return {key: total / samples for key, total in totals.items()}


def simple_costs(
    kind: str, sites: Mapping[str, Site], proposals: Sequence[Proposal], diagonals: Mapping[str, Tensor]
) -> list[float]:
    """The cost "mse", "trace" or "fisher" of each proposal."""
    found = []
    for proposal in proposals:
        if proposal.rounded is None:
            found.append(0.0)
            continue
        square = (proposal.rounded.decode() - sites[proposal.name].weight.detach()).square()
        diagonal = diagonals[proposal.name] if kind != "mse" else torch.ones(())
        diagonal = diagonal.mean() if kind == "trace" else diagonal
        found.append(0.5 * float((diagonal * square).sum(dtype=torch.float64)))
    return found
