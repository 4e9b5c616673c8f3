from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from noworse.propose.bits.proposals import FULL, propose, simple_costs
from noworse.propose.bits.sites import Site


def test_simple_costs_are_weighed_squared_errors() -> None:
    torch.manual_seed(0)
    site = Site("0", "0.weight", ("0",), nn.Parameter(torch.randn(4, 6)))
    found = propose(site, (3, 8), None)
    assert [p.width for p in found] == [3, 8, FULL]
    assert [p.bits for p in found] == [72, 192, FULL * 24]
    fisher = torch.rand(4, 6)
    for kind, weights in (("mse", 1.0), ("fisher", fisher.numpy()), ("trace", float(fisher.mean()))):
        costs = simple_costs(kind, {"0.weight": site}, found, {"0.weight": fisher})
        for cost, proposal in zip(costs[:2], found, strict=False):
            assert proposal.written is not None
            error = proposal.decode().numpy() - site.weight.detach().numpy()
            assert cost == pytest.approx(0.5 * np.sum(weights * error**2), rel=1e-5)
        assert costs[2] == 0
        assert costs[0] > costs[1]
