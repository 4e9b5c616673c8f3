"""Tensors that are stored losslessly: bit for bit, whatever happens around them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from noworse.errors import BadInput
from noworse.format import File
from noworse.io import load_file
from tests.tiny import ConvNet, Language, language_task, mlp, run, task


def kept_in(path: Path, model: nn.Module) -> set[str]:
    """Names of the parameters whose values in the file are the model's own."""
    found = load_file(path)
    return {name for name, value in model.named_parameters(remove_duplicate=False) if torch.equal(found[name], value)}


@pytest.mark.parametrize("kind", [torch.float32, torch.float16, torch.float64])
def test_bit_for_bit_in_the_own_dtype(tmp_path: Path, kind: torch.dtype) -> None:
    model = mlp().to(kind)
    with torch.no_grad():
        model[2].weight += 1e-9 if kind == torch.float64 else 0  # type: ignore[operator]
    report = run(task(model, keep=["2.*"]), tmp_path / "x.nwt", 3)
    assert kept_in(tmp_path / "x.nwt", model) == {"2.weight", "2.bias"}
    assert report.settings["keep"] == ["2.*"]
    with File(tmp_path / "x.nwt") as file:
        assert file.entry("2.weight").signature.dtype == str(kind).removeprefix("torch.")


@pytest.mark.parametrize(
    ("keep", "folded"), [(["conv1.weight"], {"bn2"}), (["bn2.running_mean"], {"bn1"}), (["bn?.weight"], set())]
)
def test_norms_are_not_folded_into_what_is_kept(tmp_path: Path, keep: list[str], folded: set[str]) -> None:
    model = ConvNet()
    report = run(task(model, 1, 12, 12, keep=keep), tmp_path / "x.nwt", 4)
    found = load_file(tmp_path / "x.nwt")
    names = [name for name in model.state_dict() if any(Path(name).match(pattern) for pattern in keep)]
    assert names
    assert all(torch.equal(found[name], model.state_dict()[name]) for name in names)
    assert set(report.folded) == folded


def test_ties_are_kept_whole(tmp_path: Path) -> None:
    model = Language()
    run(replace(language_task(model), keep=["head.weight"]), tmp_path / "x.nwt", 1.4)
    assert kept_in(tmp_path / "x.nwt", model) >= {"head.weight", "embed.weight"}


@pytest.mark.parametrize(
    ("keep", "target", "message"),
    [
        (["head.*"], 4, r"no tensor for keep matches 'head.\*': expected a name such as "),
        (["0.wight"], 4, "matches '0.wight': expected a name such as 0.weight"),
        (["*"], 1.01, "leaves no parameter to compress"),
        (["0.*"], 8, r"means 802 bytes: \d+ are needed even with every weight pruned but those kept \(0.bias, 0"),
    ],
)
def test_refused(tmp_path: Path, keep: list[str], target: float, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        run(task(mlp(), keep=keep), tmp_path / "x.nwt", target)


@pytest.mark.parametrize("keep", ["head.*", [3]])
def test_no_list_of_patterns(keep: Any) -> None:
    with pytest.raises(BadInput, match=r"keep of a task is .*: expected a list of patterns"):
        task(mlp(), keep=keep)
