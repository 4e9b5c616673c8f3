from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from benchmarks.documents.pictures import neighbourhoods, ratios
from benchmarks.harness.row import Row
from benchmarks.suites.llc_neighborhood import PAPER_SIZES


def measured(net: str, *places: str) -> list[Row]:
    ends = ("loss change", "|gap| of first order", "|gap| of second order")
    return [
        Row(f"{net}, all {place}, noise {size:g}: {end}", size**2, "")
        for place in places
        for size in PAPER_SIZES
        for end in ends
    ]


def test_a_line_of_panels_for_four_nets(tmp_path: Path) -> None:
    neighbourhoods([], tmp_path / "none.png")
    assert not list(tmp_path.iterdir())
    heights = []
    for nets in (("tanh_mlp",), ("tanh_mlp", "lenet5", "lenet300", "resnet20", "vgg_small")):
        rows = [row for net in nets for row in measured(net, "weights", "activations")]
        neighbourhoods(rows, tmp_path / "a.png")
        heights.append(plt.imread(tmp_path / "a.png").shape[0])
    assert heights[1] == pytest.approx(2 * heights[0], abs=1)


def test_a_bar_for_each_case_that_the_readme_shows(tmp_path: Path) -> None:
    heights = []
    for names in (["lenet5"], ["lenet5", "resnet20", "gcn at 20"], ["lenet5", "gcn at 50"]):
        ends = {"ratio": "x", "file": "bytes", "its upper bound": "nats"}
        ratios([Row(f"{name}: {end}", 2.0, unit) for name in names for end, unit in ends.items()], tmp_path / "a.png")
        heights.append(plt.imread(tmp_path / "a.png").shape[0])
    assert heights[0] == heights[2]
    assert heights[1] - heights[0] == pytest.approx(2 * 0.42 * 110, abs=2)
