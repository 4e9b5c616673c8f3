from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import pytest

from benchmarks.llc_figure import neighbourhoods
from benchmarks.llc_neighborhood import PAPER_SIZES


def measured(net: str, *places: str) -> dict[str, float]:
    ends = ("loss change", "|gap| of first order", "|gap| of second order")
    return {
        f"{net}, all {place}, noise {size:g}: {end}": size**2
        for place in places
        for size in PAPER_SIZES
        for end in ends
    }


def test_a_line_of_panels_for_four_nets(tmp_path: Path) -> None:
    neighbourhoods({}, tmp_path / "none.png")
    assert not list(tmp_path.iterdir())
    heights = []
    for nets in (("tanh_mlp",), ("tanh_mlp", "lenet5", "lenet300", "resnet20", "vgg_small")):
        values = {k: v for net in nets for k, v in measured(net, "weights", "activations").items()}
        neighbourhoods(values, tmp_path / "a.png")
        heights.append(plt.imread(tmp_path / "a.png").shape[0])
    assert heights[1] == pytest.approx(2 * heights[0], abs=1)
