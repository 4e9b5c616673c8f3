"""Every transform, kernel, rate and a tuner of one's own through whole compressions; names and settings that fail."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from torch import Tensor

from noworse.errors import BadInput
from noworse.format import File
from noworse.propose.grids.transform import Uniform
from noworse.rate.soft import Cosine, Kernel, Rate, SoftEntropy
from noworse.representation import Grid
from noworse.tune import seams
from noworse.tune.options import Options
from noworse.tune.seams import typed
from noworse.tune.tuner import Tuner
from tests.tiny import mlp, run, task


@dataclass(frozen=True)
class Half(Rate):
    """Half of the entropy."""

    share: float = 0.5

    def bits(self, codes: Tensor, kernel: Kernel) -> Tensor:
        return self.share * SoftEntropy().bits(codes, kernel)


class Needy(Uniform):
    """Needs what no settings give."""

    def __init__(self, size: int) -> None:
        self.size = size


class Patient(Tuner):
    """Counts its iterations, of which the first do nothing."""

    turns = 0

    def __init__(self, *parts: Any, wait: int = 0) -> None:
        super().__init__(*parts)
        self.wait = wait

    def turn(self, iteration: int, iterations: int, start: float, budget: float) -> tuple[float, float]:
        Patient.turns += 1
        return (1.0, budget) if iteration < self.wait else super().turn(iteration, iterations, start, budget)


@pytest.fixture
def own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, name, cls in (("rate", "half", Half), ("tuner", "patient", Patient)):
        monkeypatch.setitem(seams.NAMES, kind, dict(seams.NAMES[kind]))
        seams.register(kind, name, cls)


@pytest.mark.parametrize(
    "plugins",
    [
        *({"transform": name} for name in seams.NAMES["transform"]),
        {"transform": "log", "rate": {"name": "soft", "on_weights": True}},
        {"kernel": {"name": "triangle", "delta": 0.5}},
        {"kernel": {"name": "range", "of": "linear", "resolution": 64}},
        {"rate": "official"},
    ],
    ids=str,
)
def test_any_of_them_lands_on_its_target(plugins: dict[str, Any], tmp_path: Path) -> None:
    out = tmp_path / "m.nwt"
    report = run(task(mlp(200)), out, "4 bits", plugins=plugins)
    assert report.size == out.stat().st_size
    expected = seams.made("transform", plugins.get("transform"))
    with File(out) as file:
        file.check()
        grids = [file.entry(name).fields for name in file.names if file.entry(name).signature.kind is Grid]
        forms = {"linear"} | {grid.form.curve for grid in grids}
        assert file.settings["plugins"] == plugins
        if not expected.tunes_zone:
            assert {grid.edge for grid in grids} <= {0, 32}
    assert forms == {"linear", expected.curve}


@pytest.mark.usefixtures("own_names")
def test_classes_of_ones_own_are_used_as_any_other(tmp_path: Path) -> None:
    Patient.turns = 0
    chosen = {"tuner": {"name": "patient", "wait": 5}, "rate": {"name": "half", "share": 0.25}}
    report = run(task(mlp()), tmp_path / "m.nwt", "4 bits", iterations=12, plugins=chosen)
    assert Patient.turns == 12
    assert report.settings["plugins"] == chosen


def test_what_is_chosen_by_name_settings_or_place() -> None:
    assert isinstance(seams.made("kernel"), Cosine)
    assert seams.made("kernel", {"name": "cos", "delta": 0.5}) == Cosine(0.5)
    assert isinstance(seams.made("transform", "noworse.propose.grids.transform:Uniform"), Uniform)
    options = Options(plugins={"kernel": {"name": "cos"}, "rate": {"name": "official", "resolution": 32}})
    assert options.plugins == {"kernel": "cos", "rate": {"name": "official", "resolution": 32}}
    assert Options.from_json(options.to_json()) == options
    assert options.changed() == {"plugins": dict(options.plugins)}


@pytest.mark.parametrize(
    ("plugins", "message"),
    [
        ({"coder": "x"}, "unknown kind 'coder' in option plugins: expected one of transform, rate, kernel, tuner"),
        ({"transform": "spline"}, "unknown transform 'spline': expected one of deadzone, .*, or 'package.module:obj"),
        ({"rate": "no.such:Rate"}, "rate 'no.such:Rate' cannot be imported .ModuleNotFoundError"),
        ({"rate": "noworse.rate.soft:Nothing"}, "cannot be imported .AttributeError"),
        ({"transform": f"{__name__}:Needy"}, "Needy' cannot be made of its settings .*size"),
        ({"rate": "noworse.rate.soft:Cosine"}, "expected a class that derives from noworse.rate.soft:Rate"),
        ({"kernel": 3}, "plugins.'kernel'. is 3: expected a name, or a name with settings"),
        ({"kernel": {"delta": 0.5}}, "expected a name, or a name with settings"),
        ({"kernel": {"name": "cos", "width": 1}}, "unknown setting 'width' of kernel 'cos': expected delta"),
        ({"transform": {"name": "log", "a": 1}}, "unknown setting 'a' of transform 'log': expected none"),
        ({"kernel": {"name": "cos", "delta": "1"}}, "delta of kernel 'cos' must be of type float, found '1'"),
        ({"kernel": {"name": "cos", "delta": 0.7}}, "half width delta = 0.7"),
        ({"kernel": {"name": "range", "resolution": 3}}, "a kernel of resolution 3"),
        ({"tuner": {"name": "joint", "speed": 2}}, "unknown setting 'speed' of tuner 'joint': expected none"),
        ("log", "option plugins must be of type dict, found 'log'"),
    ],
)
def test_what_cannot_be_is_refused(plugins: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        Options(plugins=plugins)


def test_curves_start_from_nearest_rounding_alone() -> None:
    with pytest.raises(BadInput, match="rounding is 'compensated' with transform 'log': expected one of straight"):
        Options(rounding="compensated", plugins={"transform": "log"})


def test_only_what_fits_gets_a_name() -> None:
    with pytest.raises(BadInput, match="expected a class that derives from noworse"):
        seams.register("tuner", "rate", Half)
    with pytest.raises(BadInput, match="unknown kind 'codec'"):
        seams.register("codec", "rate", Half)


@pytest.mark.parametrize(
    ("value", "default", "expected"),
    [
        (3, 1.0, 3.0),
        (np.float32(0.5), 1.0, 0.5),
        (np.int16(4), 1, 4),
        ("a", (), ("a",)),
        (["a", "b"], (), ("a", "b")),
        ({"a": 1}, {}, {"a": 1}),
        (False, True, False),
    ],
)
def test_what_stands_for_a_type(value: Any, default: Any, expected: Any) -> None:
    found = typed("x", value, default)
    assert found == expected
    assert type(found) is type(default)


@pytest.mark.parametrize(
    ("value", "default"), [(True, 1), (1, True), (1.0, 1), ("1", 1), (True, 1.0), (None, ""), (3, ()), ([], {})]
)
def test_what_does_not(value: Any, default: Any) -> None:
    with pytest.raises(BadInput, match=f"x must be of type {type(default).__name__}, found"):
        typed("x", value, default)
