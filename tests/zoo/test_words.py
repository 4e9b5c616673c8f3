from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

import noworse as nw
from noworse.task.data import shared_samples
from noworse.task.task import Task, load_task
from zoo import bpe, excerpts, words
from zoo.fitting import WEIGHTS
from zoo.language import TYPOGRAPHY


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(f"{words.__file__}:words")


def test_weights_are_bfloat16_as_shipped_and_float32_in_the_task(task: Task) -> None:
    with safe_open(WEIGHTS / "words.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    assert {t.dtype for t in tensors.values()} == {torch.bfloat16}
    assert sum(t.numel() for t in tensors.values()) == sum(p.numel() for p in task.model.parameters()) == 6_294_144
    assert all(torch.equal(task.model.state_dict()[name], t.float()) for name, t in tensors.items())
    assert task.model.lm_head.weight is task.model.embed_tokens.weight


def test_tokens_are_those_of_the_excerpts(task: Task) -> None:
    encoder = bpe.read(words.MERGES)
    assert len(encoder.tokens) == words.VOCABULARY
    tokens, following = task.verify[0]
    text = excerpts.load("verify")[3][1].translate(TYPOGRAPHY)
    assert text.startswith(encoder.decode([int(tokens[3, 0]), *following[3].tolist()]))
    assert torch.equal(tokens[:, 1:], following[:, :-1])


@torch.no_grad()
def test_loss_is_code_length_in_nats(task: Task) -> None:
    tokens, following = (part[:2, :20] for part in task.verify[0])
    logits = task.model(tokens).double()
    expected = []
    for row, right in zip(logits.tolist(), following.tolist(), strict=True):
        each = [math.log(math.fsum(map(math.exp, v))) - v[k] for v, k in zip(row, right, strict=True)]
        expected.append(sum(each) / len(each))
    assert task.loss(task.model, (tokens, following)).tolist() == pytest.approx(expected, abs=1e-4)


def test_nothing_judged_was_seen(task: Task) -> None:
    assert {tuple(part.shape) for batch in [*task.calib, *task.verify] for part in batch} == {(25, 128)}
    assert len(task.verify) == len(task.calib) == 16
    assert shared_samples(task.calib, task.verify) == 0


@pytest.mark.slow
def test_loss_of_the_log(task: Task) -> None:
    record = json.loads((WEIGHTS / "words.json").read_text())
    assert math.log(task.metric(task.model, task.verify)) == pytest.approx(record["test_loss"], abs=2e-4)
    assert record["dev_loss"] == pytest.approx(record["log"][-1]["dev_loss"], abs=2e-3)  # of rounding to bfloat16
    assert record["test_loss"] < 0.7 * math.log(words.VOCABULARY)


@pytest.mark.slow
def test_a_compression_from_task_to_verdict(task: Task, tmp_path: Path) -> None:
    first = [tuple(part[:16, :64] for part in batch) for batch in task.calib[:1]]
    judged = [tuple(part[:, :64] for part in batch) for batch in task.verify[:2]]
    small = replace(task, calib=first, verify=judged)
    options = nw.Options(iterations=1, batch=2, rounding="nearest")
    report = nw.compress_task(small, tmp_path / "words.nwt", target=6, tolerance=None, options=options, progress=None)
    assert report.ratio >= 6
    assert report.verdict.ear is not None
    assert report.verdict.ear_bound is not None
    assert 0.5 < report.verdict.ear_bound < report.verdict.ear < 1
