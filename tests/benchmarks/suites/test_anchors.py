from __future__ import annotations

from benchmarks.suites.anchors import best_ratio, rows_of

VALUES = {
    "vit_tiny at 16: ratio": 16.0, "vit_tiny at 16: its upper bound": 0.002,
    "vit_tiny at 18: ratio": 18.4, "vit_tiny at 18: its upper bound": 0.01,
    "vit_tiny at 30: ratio": 30.0, "vit_tiny at 30: its upper bound": 0.0101,
    "lenet5: ratio": 70.0, "lenet5: its upper bound": 0.02,
    "lenet5x: ratio": 60.0, "lenet5x: its upper bound": 0.0,
}  # fmt: skip


def test_the_largest_ratio_that_keeps_the_limit_counts() -> None:
    assert best_ratio(VALUES, "vit_tiny") == 18.4
    assert best_ratio(VALUES, "lenet5") == 0


def test_half_of_the_bytes_is_twice_the_ratio() -> None:
    rows = {row.name: row for net in ("vit_tiny", "lenet5") for row in rows_of(net, VALUES)}
    assert abs(rows["vit_tiny: bytes / NNCodec's"].value - 0.5) < 1e-12
    assert rows["vit_tiny: bytes / NNCodec's"].ok
    assert not any(name.startswith("lenet5: bytes") for name in rows)
