from __future__ import annotations

from pathlib import Path

import pytest
import torch

from noworse.errors import BadInput
from noworse.io import load_file
from noworse.jobs.compress import compress, compress_task
from noworse.tune.options import Options
from noworse.tune.presets import PRESETS, choose
from tests.tiny import ConvNet, loss, mlp, task


def test_options_where_given_else_those_of_the_preset() -> None:
    given = Options(seed=7)
    assert choose(given, "default") is given
    assert choose(None, "default") == Options()
    assert choose(None, "fast") is PRESETS["fast"]


@pytest.mark.parametrize(
    ("options", "preset", "message"),
    [
        (None, "faster", "unknown preset 'faster': expected one of default, fast"),
        (Options(), "faster", "unknown preset 'faster'"),
        (Options(), "fast", "options and preset 'fast' were given"),
    ],
)
def test_refused(options: Options | None, preset: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        choose(options, preset)


@pytest.mark.parametrize("target", [4, 7])
def test_fast_lands_without_training(tmp_path: Path, target: float) -> None:
    job = task(ConvNet(), 1, 12, 12)
    report = compress_task(job, tmp_path / "x.nwt", target=target, tolerance=None, preset="fast", progress=None)
    size = report.original_size / target
    assert 0.99 * size - 24 <= report.size <= size
    assert report.spent["net"] == 0.0


def test_fast_through_compress_repeats_itself(tmp_path: Path) -> None:
    job = task(mlp())
    found = []
    for name in ("a.nwt", "b.nwt"):
        arguments = {"loss": loss, "calib": job.calib, "verify": job.verify, "out": tmp_path / name}
        compress(job.model, **arguments, target=5, tolerance=None, preset="fast", progress=None)  # type: ignore[arg-type]
        found.append((tmp_path / name).read_bytes())
    assert found[0] == found[1]
    weights = load_file(tmp_path / "a.nwt")
    assert not torch.equal(weights["0.weight"], job.model.state_dict()["0.weight"])
