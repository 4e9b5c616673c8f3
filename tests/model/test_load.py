from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from noworse import BadInput, MismatchedModule, load_file, load_model, save_file
from noworse.format import write
from noworse.io import represent
from noworse.model.factorised import Factorised
from noworse.representation import Constant, Grid, Product, pack_step
from tests.representation.test_product import grid
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


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.fc, self.conv = nn.Embedding(30, 8), nn.Linear(12, 20), nn.Conv2d(4, 10, 3, bias=False)
        self.wide, self.grouped = nn.Conv2d(4, 10, 3), nn.Conv2d(4, 8, 3, groups=2)
        self.raw = nn.Parameter(torch.zeros(12, 10))


PRODUCTS = {
    "embed.weight": Product(grid((30, 3)), grid((3, 8), 1), 0, (30, 8), "float32"),
    "fc.weight": Product(grid((20, 4)), grid((4, 12), 1), 0, (20, 12), "float32"),
    "conv.weight": Product(grid((30, 4)), grid((4, 12), 1), 1, (10, 4, 3, 3), "float32"),
    "wide.weight": Product(grid((10, 3)), grid((3, 36), 1), 0, (10, 4, 3, 3), "float32"),
    "grouped.weight": Product(grid((8, 2)), grid((2, 18), 1), 0, (8, 2, 3, 3), "float32"),
    "raw": Product(grid((12, 2)), grid((2, 10), 1), 0, (12, 10), "float32"),
}


@pytest.fixture
def path(tmp_path):
    state = {name: represent(name, tensor) for name, tensor in Net().state_dict().items()}
    write(tmp_path / "a.nwt", {**state, **PRODUCTS}, {})
    return tmp_path / "a.nwt"


def test_a_dense_module_gets_products(path):
    net = load_model(Net(), path)
    for name, product in PRODUCTS.items():
        torch.testing.assert_close(net.state_dict()[name], torch.from_numpy(product.decode()))


def test_layers_become_factors_where_asked_for(path):
    dense, net = load_model(Net(), path), load_model(Net(), path, factorised=True)
    assert {n for n, m in net.named_modules() if isinstance(m, Factorised)} == {"embed", "fc", "conv", "wide"}
    for name in ("embed", "fc", "conv", "wide"):
        layer = net.get_submodule(name)
        torch.testing.assert_close(layer.weight, dense.get_submodule(name).weight, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(net.fc.bias, dense.fc.bias)
    assert torch.equal(net.grouped.weight, dense.grouped.weight)
    x = torch.randn(2, 4, 9, 9)
    torch.testing.assert_close(net.conv(x), dense.conv(x), atol=1e-5, rtol=1e-5)


def test_a_module_in_factors_is_loaded_as_it_is(path):
    first = load_model(Net(), path, factorised=True)
    again = copy.deepcopy(first)
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    load_model(again, path)
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    again.fc[0].weight = nn.Parameter(torch.zeros(5, 12))
    with pytest.raises(MismatchedModule, match=r"fc\.0\.weight"):
        load_model(again, path)


def test_files_have_the_names_of_the_dense_module(path):
    assert set(load_file(path, framework="np")) == set(Net().state_dict())
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
    with pytest.raises(MismatchedModule, match=r"has none of the tensors of the module: weight, other, ... for 0.weig"):
        load_model(nn.Sequential(layer), tmp_path / "a.nwt", strict=False)
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


def test_tensors_with_one_place_for_many_elements_get_memory(tmp_path):
    layer = nn.Linear(2, 2)
    layer.register_buffer("spread", torch.zeros(1, 1).expand(4, 4))
    layer.gain = nn.Parameter(torch.ones(1, 3).expand(2, 3))
    state = {name: torch.randn(tensor.shape) for name, tensor in layer.state_dict().items()}
    save_file(state, tmp_path / "a.nwt")
    load_model(layer, tmp_path / "a.nwt")
    assert all(torch.equal(tensor, state[name]) for name, tensor in layer.state_dict().items())
