import pytest
import torch
from torch import nn

from noworse.errors import BadInput
from noworse.model.tensors import state_bytes, state_tensors


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.embed.weight
        self.register_buffer("table", torch.arange(6.0))
        self.scale = nn.Parameter(torch.ones(3))
        self.single = nn.Parameter(torch.tensor(0.5))


def test_every_entry_once_with_ties_found() -> None:
    found = {entry.name: entry for entry in state_tensors(Tied())}
    assert list(found) == list(Tied().state_dict())
    assert found["head.weight"].tied_to == "embed.weight"
    assert found["embed.weight"].is_grid
    assert not found["head.weight"].is_grid, "a tied tensor is written once"
    assert not found["table"].is_grid, "buffers are kept exactly"
    assert not found["scale"].is_grid, "constants cost nothing"
    assert not found["single"].is_grid
    assert state_bytes(Tied()) == 4 * (40 + 6 + 3 + 1)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_refuses_non_finite_weights_by_name(bad: float) -> None:
    model = nn.Linear(3, 3)
    with torch.no_grad():
        model.weight[1, 1] = bad
    with pytest.raises(BadInput, match="'weight' has 1 NaN or infinite"):
        state_tensors(model)


def test_refuses_a_model_without_weights() -> None:
    with pytest.raises(BadInput, match="no floating-point parameter"):
        state_tensors(nn.ReLU())
