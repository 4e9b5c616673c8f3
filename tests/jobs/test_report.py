from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from noworse.errors import BadInput
from noworse.format import pack, restamp
from noworse.jobs.report import Report
from noworse.judge.verdict import Verdict

VERDICT = Verdict("no worse", 800, 0.51, 0.515, 0.005, 0.009, 0.001, 0.01, changed=0.0125, mean_kl=0.003)
REPORT = Report("net.nwt", 1000, 24_500, VERDICT, 12.4, {"seed": 3}, folded=("bn1",), spent={"net": 5.0})


def test_ratio_is_original_over_file() -> None:
    assert REPORT.ratio == 24.5


def test_json_holds_every_field_and_the_ratio() -> None:
    found = json.loads(REPORT.to_json())
    assert found.pop("ratio") == pytest.approx(24.5)
    assert Verdict(**found.pop("verdict")) == VERDICT
    assert found == {
        "path": "net.nwt",
        "size": 1000,
        "original_size": 24_500,
        "seconds": 12.4,
        "settings": {"seed": 3},
        "folded": ["bn1"],
        "unused": [],
        "spent": {"net": 5.0},
        "products": None,
        "families": {},
    }


def test_text_says_what_counts() -> None:
    text = str(REPORT)
    assert text.splitlines()[0] == "net.nwt: 1,000 bytes, 24.50 times smaller than 24,500 (12 s)"
    assert str(VERDICT) in text
    assert "not reached" not in text
    assert str(replace(REPORT, unused=("fc.bias", "fc.weight"))).endswith("fixed step: fc.bias, fc.weight")


def test_save_copies_the_published_file(tmp_path: Path) -> None:
    path, copy = tmp_path / "net.nwt", tmp_path / "copy.nwt"
    report = replace(REPORT, path=str(path))
    with pytest.raises(BadInput, match="is not there"):
        report.save(copy)
    path.write_bytes(pack({}, {"seed": 3}, VERDICT.record()))
    assert report.save(copy) == path.stat().st_size
    assert copy.read_bytes() == path.read_bytes()
    restamp(path, replace(VERDICT, mean_kl=0.004).record())
    with pytest.raises(BadInput, match="holds another verdict"):
        report.save(copy)
