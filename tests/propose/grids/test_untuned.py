from __future__ import annotations

import numpy as np
import torch

from noworse.propose.grids.grid import NONE, GridSet, GridSpec, Outlying
from noworse.propose.grids.untuned import Untuned


def test_weights_come_back_bit_for_bit_and_are_shared_where_the_original_has_them() -> None:
    torch.manual_seed(0)
    original = {"same": torch.randn(20, 30), "scaled": torch.randn(8, 4, 3, 3), "other": torch.randn(50)}
    rows, columns = torch.rand(8, dtype=torch.float64).reshape(-1, 1, 1, 1), torch.rand(3, dtype=torch.float64)
    weights = dict(original, other=torch.randn(50))
    weights["scaled"] = ((original["scaled"].double() * rows).float().double() * columns).float()
    far = Outlying(np.array([3, 70]), original["same"].flatten()[[3, 70]].numpy())
    outliers = {"same": far}
    specs = [GridSpec(n, tuple(w.shape), "float32", outliers=outliers.get(n, NONE)) for n, w in weights.items()]
    grids = GridSet(specs, weights, 0.6)
    state = grids.state()
    factors = {"scaled": (rows, columns)}
    untuned = Untuned(grids, {name: (tensor, factors.get(name, ())) for name, tensor in original.items()})
    assert list(untuned._copies) == [2], "what the original does not tell is copied"
    grids.log_step -= 3.0
    grids.rebase()
    before = [grids.weights(k) for k in range(3)]
    grids.latent.uniform_()
    untuned.restore()
    assert all(map(torch.equal, grids.tensors, state))
    for k in range(3):
        torch.testing.assert_close(untuned.weights(k), before[k])


def test_without_sources_all_is_copied() -> None:
    grids = GridSet([GridSpec("w", (50,), "float32")], {"w": torch.randn(50)}, 0.6)
    state, untuned = grids.state(), Untuned(grids)
    grids.latent.zero_()
    untuned.restore()
    assert all(map(torch.equal, grids.tensors, state))
