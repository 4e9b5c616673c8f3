"""Gaps of Taylor expansions fall as derivatives say, in float64, at every place and for all places together."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import noworse
from noworse.errors import BadInput
from noworse.sensitivity.curves import Neighborhood
from tests import tiny


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3))


def batches() -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(20, 6, generator=generator), torch.randint(0, 3, (20,), generator=generator)
    return list(zip(x.split(12), y.split(12), strict=True))


@pytest.fixture(scope="module")
def found() -> Neighborhood:
    return noworse.neighborhood(net(), loss, batches())


def test_slopes_of_a_smooth_net_are_two_and_three(found: Neighborhood) -> None:
    assert {(c.place, c.where) for c in found.curves} == {
        ("0.weight", "weights"),
        ("2.weight", "weights"),
        ("all", "weights"),
        ("0", "activations"),
        ("2", "activations"),
        ("all", "activations"),
    }
    for curve in found.curves:
        assert abs(curve.slope_first - 2) < 0.1
        assert curve.slope_second > 2.8
        assert curve.bound_first is not None
        assert curve.bound_second is not None
        assert curve.bound_first <= curve.bound_second


def test_all_places_together_are_the_same_without_each_alone(found: Neighborhood) -> None:
    together = noworse.neighborhood(net(), loss, batches(), alone=False)
    assert together.points == tuple(point for point in found.points if point.place == "all")
    assert {(c.place, c.where) for c in together.curves} == {("all", "weights"), ("all", "activations")}


def test_real_errors_stand_beside_noise(found: Neighborhood) -> None:
    kinds = {p.error for p in found.points if p.where == "weights" and p.place == "all"}
    roundings = {f"{bits} bits{how}" for bits in (2, 4, 8) for how in ("", " directed")}
    assert kinds == {"noise", "half rank"} | roundings
    assert {p.error for p in found.points if p.where == "activations"} == kinds - {"half rank"}
    fine = [p for p in found.points if p.error.startswith("8 bits")]
    assert all(p.mean_gap_second < 1e-6 < 1e-3 < p.relative for p in fine)


def test_directed_rounding_has_the_lower_first_order_of_up_and_down(found: Neighborhood) -> None:
    from noworse.sensitivity import measure
    from noworse.sensitivity.shifted import weight_rounding

    errors = {how: {"0.weight": weight_rounding(4, how)} for how in ("up", "down")}
    slopes = measure(net(), loss, batches(), errors, "first-order", dtype=torch.float64)
    point = next(p for p in found.points if (p.place, p.error) == ("0.weight", "4 bits directed"))
    assert point.first == pytest.approx(min(s.mean for s in slopes.values()), rel=1e-9)


def test_sizes_are_relative_to_the_tensors_root_mean_square(found: Neighborhood) -> None:
    rms = net()[0].weight.square().mean().sqrt().item()
    point = next(p for p in found.points if p.place == "0.weight" and p.size == 1e-3)
    assert point.relative == pytest.approx(1e-3 / math.sqrt(3) / rms, rel=0.15)  # of uniform noise, 48 draws


def test_gauss_newton_in_float32_and_without_labels() -> None:
    data = [x for x, _ in batches()]
    found = noworse.neighborhood(
        net(), None, data, curvature="gauss-newton", dtype=torch.float32, bits=(4,), sizes=(0.1, 0.03)
    )
    assert found.dtype == "float32"
    for point in found.points:
        assert abs(point.first) < 1e-6  # the distillation loss is smallest where it stands
        if point.relative < 0.1:
            assert point.second == pytest.approx(point.actual, rel=0.3)


def test_dict_inputs_integer_inputs_and_tied_weights() -> None:
    model = tiny.Language()
    data = tiny.language_task(model).verify[:1]
    found = noworse.neighborhood(model, tiny.language_loss, data, bits=(8,), sizes=(1e-3,))
    assert found.skipped == {"embed": "fed no floating-point tensor"}
    assert {c.place for c in found.curves if c.where == "activations"} == {"mix", "head", "all"}


def test_layers_that_are_never_called_are_named() -> None:
    found = noworse.neighborhood(tiny.Odd(), loss, _odd(), bits=(), sizes=(1e-3,))
    assert found.skipped == {"spare": "never called"}
    spare = next(p for p in found.points if p.place == "spare.weight" and p.error == "noise")
    assert spare.actual == spare.first == spare.second == 0


def _odd() -> list[tuple[Tensor, Tensor]]:
    torch.manual_seed(1)
    return [(torch.randn(10, 20), torch.randint(0, 4, (10,)))]


def test_constant_activations() -> None:
    data = [(torch.zeros(4, 6), torch.zeros(4, dtype=torch.long))]
    found = noworse.neighborhood(net(), loss, data, bits=(2,), sizes=(1e-2,))
    point = next(p for p in found.points if p.place == "0" and p.error == "2 bits")
    assert point.actual == point.first == 0
    assert json.loads(found.to_json())["samples"] == 4


def test_json_table_and_figure(found: Neighborhood, tmp_path: Path) -> None:
    stored = json.loads(found.to_json())
    assert len(stored["points"]) == len(found.points)
    assert stored["dtype"] == "float64"
    table = found.table()
    assert "0.weight" in table
    assert "activations" in table
    found.figure(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"curvature": "exact"}, "unknown curvature 'exact': expected one of hessian"),
        ({"sizes": (0.1, -1)}, "expected positive numbers"),
        ({"sizes": ()}, "expected positive numbers"),
        ({"bits": (1,)}, "expected integers from 2 to 16"),
        ({"share": 2}, "expected a number between 0 and 1"),
        ({"weights": ["nothing"]}, "names 'nothing'"),
        ({"layers": ["nothing"]}, "names 'nothing'"),
        ({"weights": [], "layers": []}, "no weights or layers to move"),
    ],
)
def test_bad_input(given: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        noworse.neighborhood(net(), loss, batches(), **given)
