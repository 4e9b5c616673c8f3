from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import nn

from noworse.errors import BadInput
from noworse.model.tensors import check_float32, float32_copy, matching, state_tensors, twin


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


def test_a_float32_copy_keeps_ties_of_parameters_and_buffers() -> None:
    model = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3), "n": nn.BatchNorm1d(3), "m": nn.BatchNorm1d(3)})
    model["b"].weight = model["a"].weight
    model["m"].running_var = model["n"].running_var
    model["m"].register_buffer("absent", None)
    model.half().train()
    model["m"].running_var = model["n"].running_var  # half() gave each a tensor of its own
    copied = float32_copy(model)
    ties = {entry.name: entry.tied_to for entry in state_tensors(copied) if entry.tied_to}
    assert ties == {entry.name: entry.tied_to for entry in state_tensors(model) if entry.tied_to}
    assert set(ties) == {"b.weight", "m.running_var"}
    assert {t.dtype for t in copied.parameters()} == {torch.float32}
    assert not copied.training
    assert not any(p.requires_grad for p in copied.parameters())
    assert model["a"].weight.dtype == torch.float16
    assert model.training


def test_a_float32_copy_may_share_parameters_but_neither_flags_nor_buffers() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 4).half())
    model[0].bias = nn.Parameter(model[0].bias.detach(), requires_grad=False)
    copied = float32_copy(model, share=True)
    mine, theirs = dict(model.named_parameters()), dict(copied.named_parameters())
    shared = {name for name in mine if mine[name].data_ptr() == theirs[name].data_ptr()}
    assert shared == {"0.weight", "0.bias", "1.weight", "1.bias"}
    assert all(torch.equal(mine[name].float(), theirs[name]) for name in mine)
    assert not any(p.requires_grad for p in theirs.values())
    assert [name for name, p in mine.items() if not p.requires_grad] == ["0.bias"]
    assert model[1].running_mean.data_ptr() != copied[1].running_mean.data_ptr()
    assert mine["2.weight"].dtype == torch.float16


def test_a_twin_of_a_module_that_keeps_what_it_computed() -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc, self.last = nn.Linear(3, 2), {}  # type: ignore[var-annotated]

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.last["out"] = self.fc(x)
            return self.last["out"]

    model, x = Keeps(), torch.randn(4, 3)
    model(x)
    copied = twin(model)
    assert torch.equal(copied.last["out"], model.last["out"])
    assert model.last["out"].requires_grad
    assert not copied.last["out"].requires_grad
    assert torch.equal(copied(x), model(x))
    normed = nn.utils.weight_norm(nn.Linear(3, 2))
    normed(x)
    assert torch.equal(twin(normed)(x), normed(x))


class TiedByData(nn.Module):
    """Two parameters, one storage: the idiom of many old language models; and a buffer that is another's memory."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.head = nn.Embedding(30, 8), nn.Linear(8, 30, bias=False)
        self.head.weight.data = self.embed.weight.data
        self.register_buffer("table", torch.arange(5.0))
        self.register_buffer("alias", self.table)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share", [False, True])
def test_ties_by_storage_stay_ties_in_copies(dtype: torch.dtype, share: bool) -> None:
    model = TiedByData()
    if dtype != torch.float32:
        model.head.weight.data = model.embed.weight.data = model.embed.weight.data.to(dtype)
    for copied in (twin(model), float32_copy(model, share)):
        assert copied.head.weight is copied.embed.weight  # type: ignore[union-attr]
        tied = {entry.name: entry.tied_to for entry in state_tensors(copied)}
        assert tied == {"embed.weight": None, "head.weight": "embed.weight", "table": None, "alias": "table"}
    assert model.head.weight is not model.embed.weight, "the caller's model is as it was"


def test_parameters_that_share_memory_in_other_shapes_are_refused() -> None:
    class Transposed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.enc, self.dec = nn.Linear(32, 24, bias=False), nn.Linear(24, 32, bias=False)
            self.dec.weight = nn.Parameter(self.enc.weight.data.t())

    with pytest.raises(BadInput, match=r"'enc.weight' and 'dec.weight' share memory in different shapes or orders"):
        state_tensors(Transposed())


def test_what_no_file_takes_or_copies_cannot_keep_is_refused() -> None:
    model: Any = nn.Sequential(nn.Linear(8, 4))
    model.copied = threading.Lock()
    with pytest.raises(BadInput, match=r"cannot be copied \(cannot pickle '_thread.lock' object\)"):
        twin(model)
    for buffer, message in (
        (model[0].weight.data, "'echo' and '0.weight' share memory as parameter and buffer"),
        (model[0].weight.data[1], "'echo' and '0.weight' share memory as parameter and buffer"),
        (torch.eye(3).to_sparse(), "tensor 'echo' is float32, torch.sparse_coo"),
    ):
        model.register_buffer("echo", buffer)
        with pytest.raises(BadInput, match=message):
            state_tensors(model)


def test_parameters_cut_from_one_vector_are_no_ties() -> None:
    class Cut(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            flat = torch.randn(4, 20)
            self.a, self.b = nn.Parameter(flat[:, :8]), nn.Parameter(flat[:, 8:])

    assert [entry.tied_to for entry in state_tensors(Cut())] == [None, None]


NAMES = ["head.weight", "head.bias", "body.0.weight"]


def test_matches_come_in_the_order_of_the_names() -> None:
    assert matching(["body.*", "*.bias"], NAMES, "x") == ["head.bias", "body.0.weight"]
    assert matching([], NAMES, "x") == []


def test_a_pattern_without_a_match_names_what_is_close() -> None:
    with pytest.raises(BadInput, match=r"no tensor for keep matches 'haed.weight': expected a name such as head.wei"):
        matching(["head.*", "haed.weight"], NAMES, "no tensor for keep")
    with pytest.raises(BadInput, match=r"matches 'zzz': expected a name such as head.weight, head.bias"):
        matching(["zzz"], NAMES, "no tensor")


def test_numbers_that_float32_has_not_are_named() -> None:
    layer = nn.Linear(2, 2).double()
    layer.register_buffer("scale", torch.tensor([1.0, float("inf"), 3e38], dtype=torch.float64))
    check_float32(layer)
    layer.register_buffer("mask", torch.tensor([0.0, -1e300], dtype=torch.float64))
    with pytest.raises(BadInput, match=r"'mask' holds -1e[+]300 in float64: expected numbers that float32 has"):
        check_float32(layer)
