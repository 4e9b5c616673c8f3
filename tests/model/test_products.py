from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from noworse import MismatchedModule, load_file, load_model
from noworse.format import write
from noworse.io import represent
from noworse.model.factorised import Factorised
from noworse.representation import Product
from tests.representation.test_product import grid


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
