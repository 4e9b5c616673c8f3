from __future__ import annotations

import pytest
import torch

from noworse import BadInput, Options, compress_task, load_model
from noworse.format import File
from noworse.methods.lowrank.student import Factored, descend, offered
from noworse.model.factorised import Factorised
from noworse.representation import Product
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
        ({"methods": "auto", "transform": "log"}, "expected a plain grid"),
        ({"methods": "auto", "per_channel": True}, "expected a plain grid"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(BadInput, match=message):
        Options(**options)


def test_names_of_factors_become_those_of_the_file():
    factored = Factored({"b.weight": ("b.1.weight", "b.0.weight", (8, 8))}, {"b.1.bias": "b.bias"})
    state = ["a.weight", "b.0.weight", "b.1.weight", "b.1.bias", "c"]
    assert factored.order(state) == ["a.weight", "b.weight", "b.bias", "c"]


class Offer:
    def __init__(self, *shape):
        self.layer = torch.nn.Linear(shape[1], shape[0])


def test_descent_takes_the_best_rank_of_each_layer_in_turn():
    analyses = {"a": Offer(60, 60), "b": Offer(40, 40)}
    assert offered(analyses["a"])[0] == 29

    def loss(ranks):
        a, b = ranks.get("a", 60), ranks.get("b", 40)
        return abs(a - 15) + abs(b - 40)

    best = descend(analyses, loss)
    assert set(best) == {"a"}
    assert abs(best["a"] - 15) <= 1
    assert loss(best) <= min(loss({"a": rank}) for rank in offered(analyses["a"]))


def test_compress_task_takes_options(tmp_path):
    options = Options(iterations=2, methods="auto")
    report = compress_task(tiny.task(redundant()), tmp_path / "a.nwt", target=10, options=options, progress=None)
    assert report.settings["methods"] == "auto"


def test_ranks_near_the_best_stay_below_break_even():
    tried = []

    def loss(ranks):
        tried.append(ranks.get("a", 99))
        return -ranks.get("a", -1)

    assert descend({"a": Offer(10, 500)}, loss) == {"a": 9}
    assert max(rank for rank in tried if rank != 99) == 9
