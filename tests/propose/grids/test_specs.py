from __future__ import annotations

import pytest
import torch
from torch import nn

from noworse.errors import BadInput
from noworse.model.tensors import state_tensors
from noworse.propose.grids.specs import fixed_items, grid_specs
from noworse.representation import Tied


def test_small_tensors_come_first_and_unreached_ones_are_not_tuned() -> None:
    chosen = {"large": torch.zeros(4, 5), "small": torch.zeros(3)}
    specs = grid_specs(chosen, {name: tensor.half() for name, tensor in chosen.items()}, {"large": 1.0, "small": 0.0})
    assert [(s.name, s.shape, s.dtype, s.tuned) for s in specs] == [
        ("small", (3,), "float16", False),
        ("large", (4, 5), "float16", True),
    ]
    with pytest.raises(BadInput, match="'small' has dtype complex64"):
        grid_specs(chosen, {"large": chosen["large"], "small": torch.zeros(3, dtype=torch.complex64)}, {"large": 1.0})


def test_tensors_without_a_grid_are_stored_in_their_own_dtype() -> None:
    net = nn.Sequential(nn.Linear(3, 3), nn.BatchNorm1d(3), nn.Linear(3, 3))
    net[2].weight = net[0].weight
    entries = state_tensors(net)
    originals = {entry.name: entry.tensor.detach().double() if entry.tensor.is_floating_point() else entry.tensor
                 for entry in entries}  # fmt: skip
    found = fixed_items(entries, originals, {"0.bias"}, {"0.weight", "1.weight"})
    assert found["2.weight"] == Tied("0.weight", (3, 3), "float64")
    assert found["0.bias"].dtype == "float64"
    assert set(found) == {entry.name for entry in entries} - {"0.weight", "1.weight"}
