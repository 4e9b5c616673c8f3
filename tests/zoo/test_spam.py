from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from noworse.judge.original import metric_of
from noworse.task.data import shared_samples
from noworse.task.task import Task, TaskUnavailable, load_task
from zoo import spam

MAIL = """Received: from somewhere
Subject: Hello  there
 X-Other: subject: no

First <b>line</b>,
second   line.

Subject: not this
"""


@pytest.fixture(scope="module")
def task() -> Task:
    try:
        return load_task(f"{spam.__file__}:spam")
    except TaskUnavailable as missing:
        pytest.skip(str(missing))


def test_subject_and_body_are_what_is_read() -> None:
    assert spam.readable(MAIL) == "Hello there First line , second line. Subject: not this"
    assert spam.readable(MAIL.replace("\n", "\r\n")) == spam.readable(MAIL)
    assert spam.readable("From: nobody\n\n" + "x" * 1000) == "x" * spam.LONGEST
    assert spam.readable("no head at all") == ""


def test_no_text_is_dealt_twice() -> None:
    dealt = spam.deal([(f"{'mM'[i % 2]}ail {i % 5501}", i % 2) for i in range(6000)])
    assert {split: len(mails) for split, mails in dealt.items()} == spam.SIZES
    found = [text.lower() for mails in dealt.values() for text, _ in mails]
    assert len(set(found)) == len(found)


def test_missing_mails_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(spam, "MAILS", tmp_path / "mails.json.xz")
    with pytest.raises(TaskUnavailable, match=r"python -m zoo\.spam --data"):
        spam.load()


@torch.no_grad()
def test_the_task(task: Task) -> None:
    assert sum(len(batch["labels"]) for batch in task.verify) == spam.SIZES["verify"]
    assert all(set(batch) == {"input_ids", "attention_mask"} for batch in task.calib)
    assert shared_samples(task.calib, task.verify) == 0
    assert not task.model.training
    batch = task.verify[0]
    vectors = task.model.encoder(batch["input_ids"], batch["attention_mask"])
    logits = vectors @ task.model.head.weight.T + task.model.head.bias
    expected = -F.log_softmax(logits, 1)[range(50), batch["labels"]]
    assert torch.allclose(task.loss(task.model, batch), expected, atol=1e-5)
    assert metric_of(task, task.model, task.verify[:4]) > 85
