from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import noworse as nw
from noworse.judge.original import metric_of
from noworse.task.data import shared_samples
from noworse.task.task import Task, load_task
from zoo import language, texts
from zoo.fitting import WEIGHTS


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(f"{language.__file__}:char_gpt")


@given(st.text())
def test_symbols_stand_for_printable_characters_and_one_for_all_others(text: str) -> None:
    symbols = language.encode(text)
    assert len(symbols) == len(text)
    for symbol, character in zip(symbols.tolist(), text.translate(language.TYPOGRAPHY), strict=True):
        printable = " " <= character <= "~"
        assert symbol == (ord(character) - 32 if printable else 95)


@torch.no_grad()
def test_the_net_does_not_look_ahead() -> None:
    torch.manual_seed(0)
    net = language.CharGPT().eval()
    symbols = torch.randint(0, 96, (2, 40))
    changed = symbols.clone()
    changed[:, 25:] = 7
    first, second = net(symbols), net(changed)
    assert torch.allclose(first[:, :25], second[:, :25], atol=1e-5)
    assert not torch.allclose(first[:, 25:], second[:, 25:], atol=1e-2)


@torch.no_grad()
def test_loss_is_code_length_in_bits(task: Task) -> None:
    symbols, following = (part[:3] for part in task.verify[0])
    logits = task.model(symbols).double()
    expected = []
    for row, right in zip(logits, following, strict=True):
        probabilities = [float(v.exp()[k] / v.exp().sum()) for v, k in zip(row, right, strict=True)]
        expected.append(-sum(map(math.log2, probabilities)) / 128)
    assert task.loss(task.model, (symbols, following)).tolist() == pytest.approx(expected, abs=1e-4)
    assert torch.equal(symbols[:, 1:], following[:, :-1])


def test_nothing_judged_was_seen(task: Task) -> None:
    assert [tuple(b.shape) for b in task.verify[0]] == [(50, 128)] * 2
    assert sum(len(b[0]) for b in task.verify) == texts.VERIFY
    calib = {tuple(row) for batch in task.calib for row in batch.tolist()}
    assert len(calib) > 3000
    assert shared_samples(task.calib, task.verify) == 0


@pytest.mark.slow
def test_bits_per_character_of_the_log(task: Task) -> None:
    record = json.loads((WEIGHTS / "char_gpt.json").read_text())
    assert record["test_loss"] <= 2.3
    assert metric_of(task, task.model, task.verify) == pytest.approx(record["test_loss"], abs=2e-4)


@pytest.mark.slow
def test_a_compression_from_task_to_verdict(task: Task, tmp_path: Path) -> None:
    small = replace(task, calib=task.calib[:1], verify=task.verify[:1])
    options = nw.Options(iterations=2, batch=8, rounding="nearest")
    report = nw.compress_task(small, tmp_path / "gpt.nwt", target=6, tolerance=None, options=options, progress=None)
    assert report.ratio >= 6
    assert 0 <= report.verdict.mean_difference < 0.5
    assert report.verdict.metric_compressed - report.verdict.metric_original == pytest.approx(
        report.verdict.mean_difference, abs=1e-6
    )
