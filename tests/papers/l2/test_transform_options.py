"""Every transform, kernel and rate through a whole compression: the file is the one asked for, and holds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from noworse.errors import BadInput
from noworse.format import File
from noworse.papers.l2.transforms import TRANSFORMS
from noworse.representation import Grid
from noworse.tune.options import Options
from tests.tiny import mlp, run, task


@pytest.mark.parametrize(
    "options",
    [
        *(pytest.param({"transform": name}, marks=pytest.mark.slow) for name in sorted(TRANSFORMS)),
        {"transform": "multiscale"},
        {"per_channel": True},
        {"transform": "log", "per_channel": True, "rate_on_weights": True},
        {"kernel": "triangle", "delta": 0.5},
        {"kernel": "linear", "resolution": 64},
        pytest.param({"rate": "official", "resolution": 64}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_any_of_them_lands_on_its_target(options: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "m.nwt"
    report = run(task(mlp(200)), out, "4 bits", **options)
    assert report.size == out.stat().st_size
    expected = TRANSFORMS[options.get("transform", "deadzone")]
    with File(out) as file:
        file.check()
        grids = [file.entry(name).fields for name in file.names if file.entry(name).signature.kind is Grid]
        forms = {"linear"} | {grid.form.curve for grid in grids}
        assert file.settings.items() >= {k: v for k, v in options.items() if v != getattr(Options(), k)}.items()
        if not expected.tunes_zone:
            assert {grid.edge for grid in grids} <= {0, 32}
    assert forms == {"linear", expected.curve}


def test_rows_get_steps_of_their_own(tmp_path: Path) -> None:
    run(task(mlp(200)), tmp_path / "m.nwt", "4 bits", iterations=60, per_channel=True, lr_steps=0.02)
    with File(tmp_path / "m.nwt") as file:
        assert len(file.entry("2.weight").fields.form.channels) == 4
        assert not file.entry("0.weight").fields.form.channels  # rows of 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"transform": "spline"}, "option transform must be one of deadzone, .*, found 'spline'"),
        ({"rate": "exact"}, "option rate must be one of soft, official, official_whole, found 'exact'"),
        ({"kernel": "box"}, "unknown kernel 'box'"),
        ({"delta": 0.7}, "half width delta = 0.7"),
        ({"resolution": 3}, "a resolution of 3"),
        ({"transform": "log", "rounding": "compensated"}, "rounding is 'compensated', which a 'log' transform cannot"),
    ],
)
def test_what_cannot_be_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Options(**options)
