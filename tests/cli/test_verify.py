"""``noworse verify``: the judge asks again, whatever a file claims."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from noworse.format import File, pack, restamp
from noworse.io import save_file
from noworse.representation import Constant
from tests.cli.outcome import Run, fails, single_object


@pytest.mark.slow
def test_verify_judges_by_what_it_is_asked(folder: Path, compressed: Run, noworse: Callable[..., Run]) -> None:
    before = (folder / "x.nwt").read_bytes()
    with File(before) as file:
        stored = file.verdict
    assert stored is not None
    found = noworse("verify", "tasks.py:tiny", "x.nwt", "--tolerance", "10", "--look", "2", "--looks", "2", "--json")
    assert found.returncode == 0
    verdict = single_object(found)
    assert (verdict["verdict"], verdict["looks"], verdict["tolerance"]) == ("no worse", 2, 10.0)
    assert verdict["upper_bound"] > stored["upper_bound"]
    assert verdict["mean_difference"] == pytest.approx(stored["mean_difference"], rel=1e-5)
    assert (folder / "x.nwt").read_bytes() == before
    (folder / "r.nwt").write_bytes(before)
    restamp(folder / "r.nwt", {**stored, "tolerance": 1e6, "confidence": 0.51, "verdict": "no worse"})
    strict = noworse("verify", "tasks.py:tiny", "r.nwt", "--tolerance", "0%", "--look", "2", "--looks", "2", "--record")
    assert strict.returncode == 3
    assert "look 2 of 2 at these samples" in strict.stdout
    assert "The file claims: no worse" in strict.stdout
    with File(folder / "r.nwt") as file:
        assert file.verdict is not None
        assert (file.verdict["looks"], file.verdict["tolerance"]) == (2, 0.0)
        file.check()


def burst(*given: object) -> None:
    raise ArithmeticError("boom")


def test_verify_a_lossless_file(folder: Path, here: Callable[..., Run], monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.spec_from_file_location("cli_tasks", folder / "tasks.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    save_file(module.net().state_dict(), folder / "lossless.nwt")
    found = here("verify", "tasks.py:tiny", "lossless.nwt")
    assert found.returncode == 0
    assert found.stdout.startswith("no worse: ")
    assert "0.00 % of the predictions changed" in found.stdout
    fails(here("verify", "tasks.py:explosive", "lossless.nwt"), 2, "with ArithmeticError: boom")
    monkeypatch.setattr("noworse.judge.verify.load_model", burst)  # a fault of our own
    fails(here("verify", "tasks.py:tiny", "lossless.nwt"), 1, "ArithmeticError: boom (--debug shows where)")
    with pytest.raises(ArithmeticError, match="boom"):
        here("verify", "tasks.py:tiny", "lossless.nwt", "--debug")


def test_file_of_another_model(mixed_path: Path, here: Callable[..., Run]) -> None:
    (mixed_path.parent / "plain.nwt").write_bytes(pack({"w": Constant(b"\0" * 4, (2,), "float32")}, {}, None))
    fails(here("verify", "tasks.py:tiny", "plain.nwt"), 2, "0.weight")
