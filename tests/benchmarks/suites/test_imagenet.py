"""The table of the paper from a folder of images and one of checkpoints, here a tiny one of each."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.suites import imagenet
from noworse.format import write
from noworse.representation import Constant, Grid, Raw
from zoo.architectures import ARCHITECTURES, Architecture
from zoo.architectures.regnet import RegNetX
from zoo.architectures.synthetic import images, randomise

Image = pytest.importorskip("PIL.Image")
TINY = Architecture(lambda: RegNetX(2, 16, 16.0, 2.0, 8, classes=3), 0, "timm", side=32, short_side=36)


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    """40 images of three classes and the checkpoint of a small net, which is made known to the benchmark."""
    monkeypatch.setitem(ARCHITECTURES, "tiny", TINY)
    monkeypatch.setitem(imagenet.PATTERNS, "tiny", "regnetx_tiny")
    generator = np.random.default_rng(0)
    for number in range(60):
        file = tmp_path / "images" / "val" / f"n{number % 3}" / f"{number}.JPEG"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (40, 48, 3), dtype=np.uint8)).save(file)
    (tmp_path / "nets").mkdir()
    model = randomise(TINY.make(), 0, [images(16, 32, 0)])
    torch.save(model.state_dict(), tmp_path / "nets" / "regnetx_tiny-abc.pth")
    return tmp_path / "images", tmp_path / "nets"


def run(folders: tuple[Path, Path], *more: str) -> None:
    given = ["--imagenet", str(folders[0]), "--checkpoints", str(folders[1]), "--models", "tiny", "--quick"]
    imagenet.main([*given, "--calib", "16", "--batch", "8", "--folder", str(folders[1]), *more])


def test_a_row_for_every_ratio(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    run(folders, "--ratios", "5", "--json", str(folders[1] / "rows.json"))
    rows = {row["name"]: row["value"] for row in json.loads((folders[1] / "rows.json").read_text())}
    assert 5.0 <= rows["tiny at 5: ratio of the whole file"] < 5.1
    assert rows["tiny at 5: ratio by the paper's rule"] != rows["tiny at 5: ratio of the whole file"]
    assert 0 <= rows["tiny at 5: top-1 of the file"] <= 100
    drop = rows["tiny at 5: top-1 of the original"] - rows["tiny at 5: top-1 of the file"]
    assert drop == pytest.approx(rows["tiny at 5: drop"])
    assert "tiny at 5: loss difference, upper bound" in capsys.readouterr().out


def test_what_is_missing_is_said_in_one_line(folders: tuple[Path, Path]) -> None:
    with pytest.raises(SystemExit, match="--imagenet nowhere is no folder: ImageNet and checkpoints are not part"):
        run((Path("nowhere"), folders[1]))
    with pytest.raises(SystemExit, match=r"checkpoint of tiny in .*: found none, expected one regnetx_tiny\*\.pth"):
        run((folders[0], folders[0]))
    with pytest.raises(SystemExit, match="has 16 and 44 images for that: expected 16 images to calibrate and 50"):
        run(folders, "--verify", "50")
    state = torch.load(folders[1] / "regnetx_tiny-abc.pth", weights_only=True)
    del state["head.fc.bias"]
    torch.save(state, folders[1] / "regnetx_tiny-abc.pth")
    with pytest.raises(SystemExit, match=r"lacks 1 tensors of tiny: head\.fc\.bias"):
        run(folders)


def test_the_narrow_ratio_counts_what_the_papers_code_counts(tmp_path: Path) -> None:
    codes = np.array([0] * 600 + [1] * 300 + [-2] * 100, np.int32)
    step = 12_345
    items = {
        "a.weight": Grid(codes, step, 32, (10, 100), "float32"),
        "n.weight": Constant(b"\0\0\x80\x3f", (50,), "float32"),
        "n.running_mean": Raw(bytes(4 * 50), (50,), "float32"),
        "position": Raw(np.random.default_rng(0).bytes(4 * 900), (900,), "float32"),
    }
    write(tmp_path / "a.nwt", items, {})
    shares = (0.6, 0.3, 0.1)
    words = math.ceil(1000 * -sum(p * math.log2(p) for p in shares) / 32)
    assert imagenet.narrow_ratio(tmp_path / "a.nwt") == pytest.approx(32 * 1050 / (32 * words + 96 * 3 + 96))
