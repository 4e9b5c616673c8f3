from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from noworse.propose.bits.proposals import FULL, curved, propose, simple_costs
from noworse.propose.bits.sites import Site
from noworse.task.distances import Distance


@pytest.mark.parametrize("kind", ["kl", "mse", "cosine"])
def test_vectors_of_changes_have_the_curvature_of_the_distance(kind: str) -> None:
    """Against second derivatives by autograd, for samples of one position and of several."""
    distance = Distance(kind)

    def total(original: Tensor, x: Tensor) -> Tensor:
        return distance(x, original).sum()

    torch.manual_seed(0)
    for shape in ((3, 5), (3, 2, 5)):
        z, dz = torch.randn(shape, dtype=torch.float64), torch.randn(shape, dtype=torch.float64)
        u = curved(z, dz, distance)
        for row in range(3):
            one = z[row : row + 1]
            hessian = torch.autograd.functional.hessian(functools.partial(total, one), one)
            move = dz[row].flatten()
            expected = float(move @ hessian.reshape(len(move), -1) @ move)
            assert float(u[row] @ u[row]) == pytest.approx(expected, rel=1e-3)


def test_simple_costs_are_weighed_squared_errors() -> None:
    torch.manual_seed(0)
    site = Site("0", ("0",), nn.Parameter(torch.randn(4, 6)))
    found = propose(site, (3, 8), None)
    assert [p.width for p in found] == [3, 8, FULL]
    assert [p.bits for p in found] == [72, 192, FULL * 24]
    fisher = torch.rand(4, 6)
    for kind, weights in (("mse", 1.0), ("fisher", fisher.numpy()), ("trace", float(fisher.mean()))):
        costs = simple_costs(kind, {"0.weight": site}, found, {"0.weight": fisher})
        for cost, proposal in zip(costs[:2], found, strict=False):
            assert proposal.rounded is not None
            error = proposal.rounded.decode().numpy() - site.weight.detach().numpy()
            assert cost == pytest.approx(0.5 * np.sum(weights * error**2), rel=1e-5)
        assert costs[2] == 0
        assert costs[0] > costs[1]
