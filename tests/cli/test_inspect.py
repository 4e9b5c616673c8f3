"""``noworse inspect``: what is in a file, and where every byte goes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from noworse.io import load_file
from tests.cli.outcome import NUMPY_ALONE, Run, single_object


def test_inspect_with_numpy_alone(mixed_path: Path, noworse: Callable[..., Run]) -> None:
    found = noworse("inspect", mixed_path.name, "--json", without=NUMPY_ALONE)
    assert found.returncode == 0, found.stderr
    seen = single_object(found)
    size = mixed_path.stat().st_size
    assert seen["size"] == size == sum(seen["bytes"].values())
    assert seen["settings"] == {"seed": 1}
    assert seen["verdict"] == {"verdict": "no worse"}
    rows = {row["name"]: row for row in seen["tensors"]}
    kinds = ["grid", "grid", "tied", "constant", "raw", "raw", "raw", "raw", "raw", "raw"]
    assert [row["kind"] for row in rows.values()] == kinds
    weight = rows["a.weight"]
    values = load_file(mixed_path)["a.weight"]
    assert weight["sparsity"] == pytest.approx(float((values == 0).float().mean()))
    assert weight["bits_per_element"] == pytest.approx(8 * weight["bytes"] / 4096)
    assert rows["b.tied"]["tied_to"] == "a.weight"
    assert sum(row["bytes"] for row in rows.values()) == seen["bytes"]["payload"] + seen["bytes"]["tables"]
    decoded = load_file(mixed_path, framework="np")
    zeros = sum(int((values == 0).sum()) for name, values in decoded.items() if name != "b.tied")
    assert seen["sparsity"] == pytest.approx(zeros / seen["elements"])
    assert seen["elements"] == 4096 + 10 + 15 + 1 + 3 + 3 + 5 + 2


def test_inspect_prints_aligned_tables_that_sum_up(mixed_path: Path, noworse: Callable[..., Run]) -> None:
    text = noworse("inspect", mixed_path.name, without=NUMPY_ALONE).stdout
    tensors, costs, rest = text.split("\n\n")
    assert "\x1b" not in text
    assert r"g.name\x1b[31mred" in tensors
    assert "= a.weight" in tensors
    assert "64 x 64" in tensors
    assert len(tensors.splitlines()) == 10 + 4
    found = [re.fullmatch(r"(\w+) +([\d,]+) +[\d.]+ %", line) for line in costs.splitlines()]
    counts = [int(match[2].replace(",", "")) for match in found if match]
    assert sum(counts[:-1]) == counts[-1] == mixed_path.stat().st_size
    assert "settings: " in rest
    assert 'verdict: {"verdict": "no worse"}' in rest
