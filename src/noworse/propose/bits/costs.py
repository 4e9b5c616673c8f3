"""Other costs of a proposal than the true one, as yardsticks: squared error, and curvature as others estimate it.

    mse       Σ δ²        trace     ½ F̄ Σ δ², F̄ the mean of the Fisher diagonal (HAWQ-V2)
    fisher    ½ Σ F δ², F its diagonal
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from noworse.propose.bits.proposals import Proposal
from noworse.propose.bits.sites import Site

TRUE = "loss"  # proposals.py: true_costs
COSTS = (TRUE, "mse", "trace", "fisher")


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
        diagonal = torch.ones(()) if kind == "mse" else diagonals.get(proposal.name, torch.zeros(()))
        diagonal = diagonal.mean() if kind == "trace" else diagonal
        found.append(0.5 * float((diagonal * square).sum(dtype=torch.float64)))
    return found
