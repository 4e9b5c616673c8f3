from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.model.tensors import state_tensors
from noworse.propose.grids.general import GeneralGrids
from noworse.propose.grids.specs import fixed_items, grid_set, grid_specs, gridded
from noworse.propose.grids.transform import Deadzone, Uniform
from noworse.rate.soft import SoftEntropy
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


def test_what_folding_did_not_change_goes_through_bit_for_bit() -> None:
    """Tensors pass through float32 copies; what is stored is the caller's, in float64 or with NaN in it."""

    class Odd(nn.Module):
        def __init__(self, dtype: torch.dtype) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.register_buffer("huge", torch.tensor([1e300, -1e-300, torch.nan], dtype=dtype))
            self.register_buffer("changed", torch.ones(3, dtype=dtype))
            self.gain = nn.Parameter(torch.tensor(1 + 1e-12, dtype=dtype), requires_grad=False)

    given, student = Odd(torch.float64), Odd(torch.float32)
    student.changed += 0.5  # as folding does
    originals = {entry.name: entry.tensor.detach() for entry in state_tensors(given)}
    fixed = fixed_items(state_tensors(student), originals, (), ("layer.weight", "layer.bias"))
    stored = {name: item.storage() for name, item in fixed.items()}
    assert stored["huge"].tobytes() == given.huge.numpy().tobytes()
    assert float(stored["gain"].item()) == 1 + 1e-12
    assert stored["changed"].tolist() == [1.5, 1.5, 1.5]


@pytest.mark.parametrize("kind", [torch.float32, torch.float64, torch.bfloat16])
def test_outliers_are_the_original_elements_unless_folding_changed_them(kind: torch.dtype) -> None:
    original = torch.randn(40, generator=torch.Generator().manual_seed(0)).to(kind)
    original[[3, 17]] = torch.tensor([1e4 + 1 / 3, -1e5], dtype=kind)
    factor, chosen = torch.Generator().manual_seed(1), {"w": original.float()}
    (spec,) = grid_specs(chosen, {"w": original}, {"w": 1.0})
    assert spec.outliers.places.tolist() == [3, 17]
    assert spec.outliers.values.tobytes() == original[[3, 17]].view(torch.uint8).numpy().tobytes()
    folded = {"w": original.float() * (1 + torch.rand(40, generator=factor))}
    (spec,) = grid_specs(folded, {"w": original}, {"w": 1.0})
    assert spec.outliers.values.tobytes() == folded["w"][[3, 17]].to(kind).view(torch.uint8).numpy().tobytes()
    (spec,) = grid_specs(chosen, {"w": original}, {"w": 1.0}, factors=["w"])
    assert not len(spec.outliers.places)


@pytest.mark.parametrize("low", [-1e4, -1e9, torch.finfo(torch.float32).min])
def test_masks_and_numbers_at_the_end_of_a_dtype_have_no_grid(low: float) -> None:
    class Masked(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(8, 8))
            self.mask = nn.Parameter(torch.triu(torch.full((8, 8), low), 1))
            self.pair = nn.Parameter(torch.tensor([0.5, low]))
            self.soft = nn.Parameter(torch.rand(8, 8) * torch.finfo(torch.float32).max)

    module = Masked()
    entries, parameters = state_tensors(module), dict(module.named_parameters())
    originals = {entry.name: entry.tensor.detach() for entry in entries}
    assert set(gridded(entries, parameters, originals, ())) == {"weight", "pair"}
    assert set(gridded(entries, parameters, originals, {"weight"})) == {"pair"}
    fixed = fixed_items(entries, originals, (), {"weight", "pair"})
    assert fixed["mask"].storage().tobytes() == module.mask.detach().numpy().tobytes()


class Floor(Uniform):
    """On the straight line, and yet with a code of its own: weights are cut off, not rounded."""

    def code(self, t: Tensor, r: Tensor, shape: Tensor) -> Tensor:
        return t + (t.floor() - t).detach()


class Renamed(Deadzone):
    """The standard one under another name."""


def test_a_code_of_ones_own_is_what_the_file_holds() -> None:
    """Fast grids would not ask for it: it goes to the general ones."""
    weight = torch.randn(8, 12, generator=torch.Generator().manual_seed(0))
    specs = grid_specs({"w": weight}, {"w": weight}, {"w": 1.0})
    found = grid_set(Floor(), SoftEntropy(), specs, {"w": weight}, 0.5)
    assert isinstance(found, GeneralGrids)
    assert not found.straight
    found.log_step.fill_(-1.0)
    found.rebase()
    (item,) = found.representations().values()
    codes = torch.from_numpy(item.codes).reshape(8, 12).double()
    assert torch.equal(codes, (weight.double() / found.steps()[0].double()).trunc())
    assert not isinstance(grid_set(Renamed(), SoftEntropy(), specs, {"w": weight}, 0.5), GeneralGrids)
