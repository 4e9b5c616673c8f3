from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest

from noworse.cli.tasks import read_options, run
from noworse.errors import BadInput
from noworse.tune.options import PRESETS, Options


def options(**given: Any) -> Any:
    absent = dict.fromkeys(("preset", "options", "seed", "iterations", "coder"))
    return read_options(Namespace(**{**absent, "settings": [], **given}), given.get("preset"))


def test_options_are_typed_and_layered(tmp_path: Path) -> None:
    (tmp_path / "o.json").write_text('{"seed": 5, "iterations": 7, "ramp": 0}')
    settings = ["iterations=9", 'plugins={"kernel": "linear"}', "zone = 1"]
    found = options(options=str(tmp_path / "o.json"), settings=settings)
    assert (found.seed, found.iterations, found.ramp) == (5, 9, 0.0)
    assert (found.plugins, found.zone) == ({"kernel": "linear"}, 1.0)
    assert isinstance(found.zone, float)
    assert options(settings=["seed=2"], seed=4).seed == 4
    assert options(settings=["coder=fast"], coder="max").coder == "max"
    assert options(preset="fast", settings=["seed=2"]).changed() == {**PRESETS["fast"], "seed": 2}
    with pytest.raises(BadInput, match="one of them"):
        options(preset="fast", options=str(tmp_path / "o.json"))


@pytest.mark.parametrize("setting", ["iterations", "iterations=many", "iterations=1.5", "seed=true", "new=1", "ramp=7"])
def test_options_that_cannot_be_used(setting: str) -> None:
    with pytest.raises(BadInput):
        options(settings=[setting])


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[1]", b"{", b'{"depth": 3}'])
def test_option_files_that_cannot_be_used(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "o.json").write_bytes(content)
    with pytest.raises(BadInput):
        options(options=str(tmp_path / "o.json"))


@pytest.mark.parametrize("name", ["task.py", "options.json"])
def test_no_file_takes_the_place_of_a_task_or_its_options(tmp_path: Path, name: str) -> None:
    (tmp_path / "task.py").write_text("raise RuntimeError")
    (tmp_path / "options.json").write_text("{}")
    given = Namespace(
        out=str(tmp_path / name), task=f"{tmp_path}/task.py:job", options=str(tmp_path / "options.json"),
        tolerance=None, no_gate=False,
    )  # fmt: skip
    with pytest.raises(BadInput, match=rf"it is .*{name}, which is read; expected another file"):
        run(pytest.fail, given, Options())
