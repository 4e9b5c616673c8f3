from __future__ import annotations

import pytest
import torch

from noworse import BadInput, Options, compress_task, load_model
from noworse.format import File
from noworse.model.factorised import Factorised
from noworse.propose.ranks.student import Factors, FileEntries, Plan, analyse, factor
from noworse.representation import Grid, Product
from noworse.representation.columns import pack_step
from tests import tiny


def redundant():
    """A wide layer of rank three but for a little noise."""
    model = tiny.mlp(256)
    with torch.no_grad():
        model[0].weight.copy_(torch.randn(256, 3) @ torch.randn(3, 20) / 4 + 0.001 * torch.randn(256, 20))
    return model


def test_a_redundant_layer_is_written_as_a_product(tmp_path):
    task = tiny.task(redundant())
    report = tiny.run(task, tmp_path / "a.nwt", target=10, methods="auto")
    assert report.products
    assert list(report.products) == ["0"]
    assert "low rank: 0 of rank" in str(report)
    with File(tmp_path / "a.nwt") as file:
        assert file.names == list(task.model.state_dict())
        product = file.representation("0.weight")
        assert isinstance(product, Product)
        assert product.left.shape == (256, report.products["0"])
    dense = load_model(tiny.mlp(256), tmp_path / "a.nwt")
    factors = load_model(tiny.mlp(256), tmp_path / "a.nwt", factorised=True)
    assert isinstance(factors[0], Factorised)
    x = torch.randn(50, 20)
    torch.testing.assert_close(factors(x), dense(x), atol=1e-4, rtol=1e-4)


def test_a_redundant_convolution_is_written_as_a_product(tmp_path):
    def net():
        torch.manual_seed(0)
        parts = torch.nn.Conv2d(1, 64, 9), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(64 * 4, 4)
        return torch.nn.Sequential(*parts).eval()

    model = net()
    with torch.no_grad():
        model[0].weight.copy_((torch.randn(64, 2) @ torch.randn(2, 81) / 9).reshape(64, 1, 9, 9))
    report = tiny.run(tiny.task(model, 1, 10, 10), tmp_path / "a.nwt", target=12, methods="auto")
    assert report.products
    assert "0" in report.products
    assert report.families["grid"] == 0
    assert "never best: grid" in str(report)
    dense = load_model(net(), tmp_path / "a.nwt")
    factors = load_model(net(), tmp_path / "a.nwt", factorised=True)
    assert isinstance(factors[0], Factorised)
    x = torch.randn(50, 1, 10, 10)
    torch.testing.assert_close(factors(x), dense(x), atol=1e-4, rtol=1e-4)


def test_products_lose_less_than_grids_where_rank_is_what_is_redundant(tmp_path):
    task = tiny.task(redundant())
    found = {m: tiny.run(task, tmp_path / m, target=16, methods=m).verdict.mean_kl for m in ("auto", "grids")}
    assert found["auto"] < 0.8 * found["grids"]


def test_layers_too_small_for_products_stay_grids(tmp_path):
    report = tiny.run(tiny.task(tiny.mlp()), tmp_path / "a.nwt", target=4, methods="auto")
    assert report.products == {}
    assert "never better than a grid" in str(report)
    grids = tiny.run(tiny.task(tiny.mlp()), tmp_path / "b.nwt", target=4)
    assert grids.products is None
    assert "low rank" not in str(grids)


def test_plans_that_lose_leave_the_file_that_grids_alone_make(tmp_path):
    model = tiny.mlp(256)  # of full rank
    noisy = tiny.task(model, augment=lambda x: x + 0.1 * torch.randn_like(x))
    for methods in ("auto", "grids"):
        report = tiny.run(noisy, tmp_path / methods, target=6, methods=methods)
        assert not report.products
    assert (tmp_path / "auto").read_bytes() == (tmp_path / "grids").read_bytes()


def test_within_a_tolerance(tmp_path):
    report = tiny.run(tiny.task(redundant()), tmp_path / "a.nwt", tolerance=0.05, methods="auto")
    assert report.verdict.passed


def test_kept_layers_have_no_factors(tmp_path):
    report = tiny.run(tiny.task(redundant(), keep=["0.weight"]), tmp_path / "a.nwt", target=1.2, methods="auto")
    assert report.products == {}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": "ranks"}, "option methods must be one of grids, auto"),
        ({"methods": "auto", "plugins": {"transform": "log"}}, "expected one of straight lines"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(BadInput, match=message):
        Options(**options)


def test_names_of_factors_become_those_of_the_file():
    factored = FileEntries({"b.weight": Factors("b.1.weight", "b.0.weight", "flat", (8, 8))}, {"b.1.bias": "b.bias"})
    state = ["a.weight", "b.0.weight", "b.1.weight", "b.1.bias", "c"]
    assert factored.order(state) == ["a.weight", "b.weight", "b.bias", "c"]


def test_compress_task_takes_options(tmp_path):
    options = Options(iterations=2, methods="auto")
    report = compress_task(
        tiny.task(redundant()), tmp_path / "a.nwt", target=10, tolerance=None, options=options, progress=None
    )
    assert report.settings["methods"] == "auto"


@pytest.mark.parametrize("way", ["flat", "spatial"])
def test_factors_of_a_convolution_make_up_its_weight(way):
    """Grids of the student's factors, as the file multiplies them, against the factors' own product."""
    model = torch.nn.Sequential(torch.nn.Conv2d(16, 32, 3), torch.nn.Flatten(), torch.nn.Linear(32, 4))
    runs = [(lambda: model(torch.randn(40, 16, 3, 3)), 40)]
    plan = Plan(analyse(model, [], runs, lambda out: out.square().sum()), {"0": (way, 5)})
    assert list(plan.analyses) == ["0"]
    assert plan.families() == {"grid": 0, "flat": int(way == "flat"), "spatial": int(way == "spatial")}
    factored = factor(model, plan)
    state = {name: value.mul(64).round() for name, value in model.state_dict().items()}

    def made(name):
        codes = state[name].to(torch.int32)
        return Grid(codes.reshape(-1).numpy(), pack_step(1.0), 32, tuple(codes.shape), "float32")

    item = factored.item("0.weight", made)
    assert isinstance(item, Product)
    model.load_state_dict(state)
    assert torch.equal(torch.from_numpy(item.storage()), model[0].weight.detach())
    assert factored.order(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
