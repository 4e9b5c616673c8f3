from __future__ import annotations

import pytest

from benchmarks.documents.tables import number, table, titled
from benchmarks.harness.row import Row


@pytest.mark.parametrize(("begin", "title"), [
    ("resnet20", "ResNet-20"), ("vgg_small at 40", "VGG-small at 40x"), ("resnet20 seed 1", "ResNet-20, seed 1"),
    ("lenet5, 4.5 bits", "LeNet-5, 4.5 bits"), ("language.py:char_gpt", "char-GPT"),
    ("Laplacian of 3 bits", "Laplacian of 3 bits"), ("|odd", "|odd"),
])  # fmt: skip
def test_beginnings_of_names_are_titled(begin: str, title: str) -> None:
    assert titled(begin) == title


@pytest.mark.parametrize(("value", "unit", "shown"), [
    (0.0123456, "nats", "+0.0123"), (-0.00123456, "nats", "-0.00123"), (26240, "bytes", "26,240 B"),
    (2.384, "%", "2.38 %"), (141.4, "s", "141 s"), (6.9487, "s", "6.949 s"), (0.0131841, "GiB", "0.0132 GiB"),
    (40.6418, "x", "40.64"), (89.2, "", "89.20"), (0.04, "", "0.04"), (1.8273e-7, "", "1.827e-07"), (4000, "", "4,000"),
    (1329.3, "MB/s", "1,329"), (-0.26, "", "-0.26"), (0, "x", "0"),
])  # fmt: skip
def test_numbers_have_the_digits_of_their_units(value: float, unit: str, shown: str) -> None:
    assert number(Row("a", value, unit)) == shown


ROWS = [
    Row("vit_tiny, equal: loss", 0.02, "nats"), Row("vit_tiny, equal: KL", 0.03, "nats"),
    Row("lenet5, equal: loss", 0.04, "nats"), Row("lenet5, equal: size", 7, "bytes"),
    Row("lenet5, other: size", 9, "bytes"),
]  # fmt: skip


def test_rows_whose_names_begin_alike_are_a_line_in_the_order_of_the_nets() -> None:
    made = table("net", {"loss (KL)": (": loss", ": KL"), "size": ": size"})(ROWS)
    assert made.splitlines() == [
        "| net | loss (KL) | size |", "|---|---|---|",
        "| LeNet-5, equal | +0.0400 | 7 B |", "| ViT-tiny, equal | +0.0200 (+0.0300) |  |",
    ]  # fmt: skip


def test_lines_are_chosen_and_others_added_where_there_are_any() -> None:
    keep, more = (lambda begin: begin.startswith("vit")), [("LLC", "1")]
    assert table("net", {"loss": ": loss"}, keep, more)(ROWS).splitlines()[2:] == [
        "| ViT-tiny, equal | +0.0200 |", "| LLC | 1 |",
    ]  # fmt: skip
    assert table("net", {"loss": ": loss"}, more=more)([]) == ""
    assert "| vit_tiny, equal |" in table("net", {"loss": ": loss"}, title=str)(ROWS)
