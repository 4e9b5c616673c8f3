from __future__ import annotations

from benchmarks import lowrank_tables
from benchmarks.lowrank import OTHERS
from benchmarks.publish import page_text

ROW = {"name": "lenet5, auto: ratio", "value": 80.5, "unit": "x", "target": ">= 80", "ok": True}


def test_tables_hold_what_was_measured_and_nothing_else() -> None:
    assert not any(part({}) for part in lowrank_tables.PARTS.values())
    keys = ("parameters dropped of these layers", "parameters dropped of the model", "operations", "loss difference")
    keys += ("its upper bound", "metric minus the original's", "samples of calib", "time")
    values = {f"lenet5, dense layers: {key}": float(k) for k, key in enumerate(keys)}
    found = lowrank_tables.decomposed(values)
    assert "| LeNet-5, dense layers | 0.0 % | 1.0 % | 2.00 | +3.0000 | +4.0000 | +5.00 | 6 | 7 s |" in found
    assert "| ResNet-18, ImageNet (LLC) | 62 % |  |  | -0.0021 |  | -0.53 |  |  |" in found


def test_weightings_stand_side_by_side() -> None:
    values = {}
    for k, way in enumerate(("default", *OTHERS)):
        values[f"vgg_small, 85% dropped, {way}: loss difference"] = k / 100
        values[f"vgg_small, 85% dropped, {way}: KL to the original"] = k / 1000
    (line,) = (line for line in lowrank_tables.equal(values).splitlines() if line.startswith("| VGG"))
    assert line.startswith("| VGG-small | 85% | +0.00000 (0.00000) | +0.01000 (0.00100) |")


def test_a_page_shows_the_tables_that_its_rows_make_and_then_all_rows() -> None:
    parts = {"Some": lambda values: "", "Others": lambda values: f"{values['lenet5, auto: ratio']:.0f} of them"}
    assert page_text([ROW], parts).startswith("**Others**\n\n80 of them\n\n**All rows**\n\n| row |")
    assert page_text([ROW], {}).startswith("| row |")
