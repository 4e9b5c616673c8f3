from __future__ import annotations

from benchmarks.documents.llc import TABLES
from benchmarks.harness.row import Row

ROWS = [
    Row("lenet5, uniform int4: loss difference on calib", 0.3, "nats"),
    Row("lenet5, uniform int4: loss difference held out", 0.4, "nats"),
    Row("vit_tiny, uniform int8: loss difference on calib", 0.1, "nats"),
    Row("vit_tiny, uniform int8: loss difference held out", -0.2, "nats"),
    Row("vit_tiny, weights: bits per weight", 2.5, "bits"),
]


def test_controls_have_a_column_for_each_net_that_was_measured() -> None:
    assert TABLES["llc: controls"](ROWS).splitlines() == [
        "| calib / held out | LeNet-5 | ViT-tiny |", "|---|---|---|",
        "| uniform int4 | +0.3000 / +0.4000 |  |", "| uniform int8 |  | +0.1000 / -0.2000 |",
    ]  # fmt: skip


def test_llcs_own_numbers_stand_below_ours_where_there_are_any() -> None:
    lines = TABLES["llc: smallest"](ROWS).splitlines()[2:]
    assert lines[0].startswith("| ViT-tiny, weights | 2.500 |")
    assert "| CNN, MNIST (LLC) |  | 73 % |  | -0.0006 |  |  |" in lines
    assert not any(made([]) for made in TABLES.values())
