from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

import noworse as nw
from noworse.judge.original import metric_of
from noworse.task.data import shared_samples
from noworse.task.task import Task, load_task
from zoo import texts, vowels
from zoo.fitting import WEIGHTS


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(f"{vowels.__file__}:vowels")


def test_samples_are_texts_their_consonants_and_what_comes_before() -> None:
    text = "The Quick, brown—fox jumps over 13 lazy dogs; and so did all of us in the end."[: vowels.LENGTH]
    assert len(text) == vowels.LENGTH
    consonants, before, characters = (part[0].tolist() for part in vowels.samples(vowels.encode(text)[None]))
    alphabet = ["", *vowels.ALPHABET, "*"]
    assert "".join(alphabet[s] for s in characters) == text.lower().replace("—", "-").replace("13", "**")
    assert "".join(alphabet[s] for s in consonants) == "th qck, brwn-fx jmps vr ** lzy dgs; nd s dd ll f "
    assert len(consonants) == vowels.LENGTH
    assert before == [0, *characters[:-1]]


@torch.no_grad()
def test_the_decoder_does_not_look_ahead_and_the_encoder_does_not_see_padding() -> None:
    torch.manual_seed(0)
    net = vowels.Restorer().eval()
    consonants, before = torch.randint(1, 33, (2, 30)), torch.randint(1, 33, (2, 40))
    changed = before.clone()
    changed[:, 25:] = 7
    first, second = net(consonants, before), net(consonants, changed)
    torch.testing.assert_close(first[:, :25], second[:, :25])
    assert not torch.allclose(first[:, 25:], second[:, 25:], atol=1e-2)
    padded = nn.functional.pad(consonants, (0, 9))
    torch.testing.assert_close(net(padded, before), first)


@torch.no_grad()
def test_loss_is_code_length_in_bits(task: Task) -> None:
    batch = [part[:3] for part in task.verify[0]]
    probabilities = vowels.forward(task.model, batch).double().softmax(-1)
    expected = [
        -sum(math.log2(float(row[k])) for row, k in zip(rows, right, strict=True)) / vowels.LENGTH
        for rows, right in zip(probabilities, batch[2], strict=True)
    ]
    assert task.loss(task.model, batch).tolist() == pytest.approx(expected, abs=1e-4)


def test_nothing_judged_was_seen(task: Task) -> None:
    assert sum(len(b[0]) for b in task.verify) == texts.VERIFY
    assert sum(len(b[0]) for b in task.calib) == vowels.CALIB
    seen = {tuple(row) for _, before in task.calib for row in before.tolist()}
    for split in ("development", "verify"):
        judged = vowels.build(split).verify
        assert not seen & {tuple(row) for _, before, _ in judged for row in before.tolist()}
    assert shared_samples(task.calib, task.verify) == 0


@pytest.mark.slow
def test_loss_and_accuracy_of_the_log(task: Task) -> None:
    record = json.loads((WEIGHTS / "vowels.json").read_text())
    assert record["test_loss"] <= 0.4
    assert metric_of(task, task.model, task.verify) == pytest.approx(record["test_accuracy"], abs=0.02)


@pytest.mark.slow
def test_a_compression_from_task_to_verdict(task: Task, tmp_path: Path) -> None:
    small = replace(task, calib=task.calib[:2], verify=task.verify[:2])
    report = nw.compress_task(small, tmp_path / "v.nwt", target=8, tolerance=None, preset="fast", progress=None)
    assert report.ratio >= 8
    assert report.verdict.mean_difference < 0.1
