from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from noworse import BadInput, MismatchedModule, load_model, save_file
from noworse.format import write
from noworse.representation import Constant, Grid, pack_step
from tests.test_io import same_bits


class Tiny(nn.Module):
    """Two tied weights, a norm, a buffer."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(12, 6)
        self.norm = nn.BatchNorm1d(6)
        self.head = nn.Linear(6, 12)
        self.head.weight = self.embedding.weight
        self.register_buffer("scale", torch.randn(3))


def test_load_model_restores_everything_in_place(tmp_path):
    torch.manual_seed(0)
    original = Tiny()
    original.norm(torch.randn(9, 6))  # running statistics that are not those of a new module
    save_file(original.state_dict(), tmp_path / "a.nwt")
    module = Tiny()
    weight = module.embedding.weight
    assert load_model(module, tmp_path / "a.nwt") is module
    assert module.embedding.weight is weight is module.head.weight
    for name, tensor in module.state_dict().items():
        same_bits(tensor, original.state_dict()[name])


def test_load_model_takes_the_dtypes_of_the_file(tmp_path):
    save_file(Tiny().bfloat16().state_dict(), tmp_path / "a.nwt")
    module = load_model(Tiny(), tmp_path / "a.nwt")
    assert {p.dtype for p in module.parameters()} == {torch.bfloat16}
    assert module.norm.num_batches_tracked.dtype == torch.int64
    assert module.head.weight is module.embedding.weight
    assert all(p.requires_grad for p in module.parameters())


def test_grids_load_into_a_module(tmp_path):
    layer = nn.Linear(3, 2)
    grid = Grid(np.array([0, 1, -1, 2, 0, -3], np.int32), pack_step(0.25), 48, (2, 3), "float32")
    write(tmp_path / "a.nwt", {"weight": grid, "bias": Constant(bytes(4), (2,), "float32")}, {})
    load_model(layer, tmp_path / "a.nwt")
    expected = [[0, 0.3125, -0.3125], [0.5625, 0, -0.8125]]  # (3/4 + |k| - 1/2) / 4
    np.testing.assert_array_equal(layer.weight.detach().numpy(), np.array(expected, np.float32))
    assert not layer.bias.any()


def test_everything_that_does_not_fit_is_named_at_once(tmp_path):
    state = Tiny().state_dict()
    del state["scale"], state["norm.bias"]
    state["extra"] = torch.zeros(2)
    state["head.bias"] = torch.zeros(13)
    save_file(state, tmp_path / "a.nwt")
    module = Tiny()
    before = copy.deepcopy(module.state_dict())
    with pytest.raises(MismatchedModule) as raised:
        load_model(module, tmp_path / "a.nwt")
    message = str(raised.value)
    assert "missing from the file: scale, norm.bias" in message
    assert "not in the module: extra" in message
    assert "of another shape: head.bias (13,), expected (12,)" in message
    assert "a.nwt does not fit the module" in message
    for name, tensor in module.state_dict().items():
        same_bits(tensor, before[name])


def test_a_broken_tie_and_untrainable_values_are_named(tmp_path):
    state = {name: tensor.clone() for name, tensor in Tiny().state_dict().items()}
    save_file(state, tmp_path / "equal.nwt")
    load_model(Tiny(), tmp_path / "equal.nwt")  # equal values are as good as a tie
    state["head.weight"] += 1
    state["head.bias"] = torch.arange(12)
    save_file(state, tmp_path / "a.nwt")
    with pytest.raises(MismatchedModule, match=r"tied in the module but different in the file: embedding\.weight and"):
        load_model(Tiny(), tmp_path / "a.nwt")
    with pytest.raises(MismatchedModule, match=r"not floating-point but trained: head.bias torch.int64"):
        load_model(Tiny(), tmp_path / "a.nwt")


def test_a_module_without_storage_is_refused(tmp_path):
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "a.nwt")
    with pytest.raises(BadInput, match=r"'weight' has no numbers \(device meta\): .*to_empty"):
        load_model(nn.Linear(2, 2, device="meta"), tmp_path / "a.nwt")


def test_one_of_tied_tensors_in_the_file_is_enough(tmp_path):
    state = dict(Tiny().state_dict())
    del state["head.weight"]  # as save_pretrained leaves them out
    save_file(state, tmp_path / "a.nwt")
    module = load_model(Tiny(), tmp_path / "a.nwt")
    assert torch.equal(module.head.weight, state["embedding.weight"])
    del state["embedding.weight"]
    save_file(state, tmp_path / "a.nwt")
    with pytest.raises(MismatchedModule, match=r"missing from the file: embedding.weight, head.weight$"):
        load_model(Tiny(), tmp_path / "a.nwt")


def test_what_fits_is_loaded_where_that_is_asked_for(tmp_path):
    save_file({"weight": torch.ones(2, 2), "other": torch.zeros(3)}, tmp_path / "a.nwt")
    layer = nn.Linear(2, 2)
    bias = layer.bias.detach().clone()
    with pytest.raises(MismatchedModule, match=r"missing from the file: bias; not in the module: other"):
        load_model(layer, tmp_path / "a.nwt")
    load_model(layer, tmp_path / "a.nwt", strict=False)
    assert bool((layer.weight == 1).all())
    assert torch.equal(layer.bias, bias)


def test_a_change_of_dtype_is_told(tmp_path):
    save_file(nn.Linear(2, 2).state_dict(), tmp_path / "a.nwt")
    with pytest.warns(UserWarning, match=r"take the dtypes of .*: torch.float16 became torch.float32"):
        load_model(nn.Linear(2, 2).half(), tmp_path / "a.nwt")


def test_complex_parameters_load(tmp_path):
    class Spectral(nn.Module):
        def __init__(self, seed):
            super().__init__()
            self.weight = nn.Parameter(
                torch.randn(3, generator=torch.Generator().manual_seed(seed), dtype=torch.cfloat)
            )

    save_file(Spectral(0).state_dict(), tmp_path / "a.nwt")
    assert torch.equal(load_model(Spectral(1), tmp_path / "a.nwt").weight, Spectral(0).weight)
