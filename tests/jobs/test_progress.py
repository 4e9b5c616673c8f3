from __future__ import annotations

import io

import pytest

from noworse.jobs.progress import show_progress
from noworse.tune.progress import ProgressLine, stage

SHOW_CURSOR = "\x1b[?25h"


def step(iteration: int, stage: str = "tune", iterations: int = 450) -> ProgressLine:
    return ProgressLine(stage, iteration, iterations, 12_345.6, 10_000.0, 0.0123456, 7.4)


LAST_STAGE = ProgressLine("write and verify", 0, 1, 0, 0, 0, 0)
LINE = "tune {}/450  12,346 of 10,000 bytes  loss 0.01235  7 s left"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(stream: io.StringIO, monkeypatch: pytest.MonkeyPatch, *steps: ProgressLine) -> str:
    monkeypatch.setattr("sys.stderr", stream)
    for each in steps:
        show_progress(each)
    return stream.getvalue()


def test_a_log_gets_few_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [step(i) for i in range(25, 451, 25)]
    lines = shown(io.StringIO(), monkeypatch, *steps, LAST_STAGE).splitlines()
    assert lines == [*(LINE.format(i) for i in (100, 200, 300, 400, 450)), "write and verify"]


def test_a_stage_without_a_size_tells_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [stage("survey"), *(stage("start", done, 230) for done in range(1, 231))]
    lines = shown(io.StringIO(), monkeypatch, *steps).splitlines()
    assert lines == ["survey", "start 100/230", "start 200/230", "start 230/230"]
    monkeypatch.setenv("TERM", "xterm")
    text = shown(Terminal(), monkeypatch, *steps)
    assert "start 7/230" in text
    assert text.count("\n") == 2


def test_a_terminal_gets_a_live_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    text = shown(Terminal(), monkeypatch, step(25), step(50), step(450), LAST_STAGE)
    places = [text.index(LINE.format(i)) for i in (25, 50, 450)] + [text.index("write and verify")]
    assert places == sorted(places)
    assert text.count("\n") == 2, "each stage leaves one line behind"
    assert text.endswith(SHOW_CURSOR)


def test_nothing_goes_to_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    show_progress(step(100))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == LINE.format(100) + "\n"
