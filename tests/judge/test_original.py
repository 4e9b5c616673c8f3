from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.errors import BadInput
from noworse.judge.original import Copies, Observer, Original, evaluating, gathered, metric_of
from noworse.model.device import CPU
from noworse.run.processes import World
from noworse.task.task import Task


class Counted(nn.Module):
    """A linear net that counts its calls, and writes into its input."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.calls = nn.Linear(6, 5), 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.linear(x.add_(1))  # type: ignore[no-any-return]


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return F.cross_entropy(model(batch[0]), batch[1], reduction="none")


def accuracy(model: nn.Module, batches: Any) -> float:
    return float(torch.cat([model(x).argmax(1) == y for x, y in batches]).float().mean())


@pytest.fixture
def task() -> Task:
    generator = torch.Generator().manual_seed(1)
    x, y = torch.randn(50, 6, generator=generator), torch.randint(0, 5, (50,), generator=generator)
    return Task(Counted(), cross_entropy, [], list(zip(x.split(16), y.split(16), strict=True)), metric=accuracy)


def reference(task: Task) -> Tensor:
    linear: Any = task.model.linear
    x, y = (torch.cat(column) for column in zip(*task.verify, strict=True))
    return F.cross_entropy(linear(x + 1), y, reduction="none").detach()


def test_what_the_original_loses_is_computed_once(task: Task) -> None:
    original = Original(task, task.verify)
    for _ in range(2):
        assert original.mean_loss == pytest.approx(float(reference(task).mean()), rel=1e-6)
        seen = [original(k, batch) for k, batch in enumerate(task.verify)]
    assert torch.cat([each.losses for each in seen]) == pytest.approx(reference(task))
    assert all(each.logits is not None and each.logits.shape == (len(each.losses), 5) for each in seen)
    assert task.model.calls == 4
    assert original.metric == original.metric
    assert task.model.calls == 8


def hits(outputs: Tensor, batch: Any) -> Tensor:
    return (outputs.argmax(1) == batch[1]).float()


@pytest.mark.parametrize("distill", ["kl", "mse"])
def test_scores_are_of_the_outputs_that_losses_are_of(task: Task, distill: str) -> None:
    scored = dataclasses.replace(task, metric=None, score=hits, distill=distill)
    original = Original(scored, scored.verify)
    assert original.mean_loss == pytest.approx(float(reference(task).mean()), rel=1e-6)
    assert task.model.calls == 4
    assert original.metric == pytest.approx(accuracy(task.model, Copies(task.verify, CPU)))


@pytest.mark.parametrize(
    ("score", "message"),
    [
        (
            lambda outputs, batch: outputs,
            r"returned shape \(16, 5\): expected score\(outputs, batch\) to return one number",
        ),
        (lambda outputs, batch: 1.0, "returned float: expected"),
        (lambda outputs, batch: outputs["logits"], "score of the original model fails in batch 0 with"),
    ],
)
def test_scores_that_cannot_be_used(task: Task, score: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        _ = Original(dataclasses.replace(task, metric=None, score=score), task.verify).mean_loss
    with pytest.raises(BadInput, match="both metric and score"):
        dataclasses.replace(task, score=score)


def test_a_mean_score_that_is_not_finite_is_left_out(task: Task) -> None:
    scored = dataclasses.replace(task, metric=None, score=lambda outputs, batch: outputs[:, 0] / 0)
    assert Original(scored, task.verify).metric is None


def test_beyond_its_limit_it_is_computed_again(task: Task) -> None:
    bytes_of_two = 2 * (16 * 4 + 16 * 5 * 4)
    original = Original(task, task.verify, limit=bytes_of_two)
    for _ in range(3):
        for k, batch in enumerate(task.verify):
            original(k, batch)
    assert task.model.calls == 4 + 2 * 2


def test_a_forward_that_writes_into_its_input_changes_nobodys_batches(task: Task) -> None:
    before = [x.clone() for x, _ in task.verify]
    original = Original(task, task.verify)
    assert original.metric == pytest.approx(accuracy(task.model, Copies(task.verify, CPU)))
    observer = Observer(task.model, task.loss)
    for k, batch in enumerate(task.verify):
        assert torch.equal(observer(k, batch)[0], original(k, batch)[0])
    assert all(torch.equal(x, y) for x, (y, _) in zip(before, task.verify, strict=True))


def test_copies_are_a_sequence(task: Task) -> None:
    copies = Copies(task.verify, CPU)
    assert len(copies) == 4
    assert torch.equal(copies[0][0], task.verify[0][0])  # type: ignore[index]
    assert copies[0][0] is not task.verify[0][0]  # type: ignore[index]
    assert [len(x) for x, _ in copies[2:]] == [16, 2]


def test_losses_and_metrics_that_cannot_be_used(task: Task) -> None:
    with pytest.raises(BadInput, match="no batches"):
        _ = Original(task, []).mean_loss
    broken = Original(Task(task.model, lambda m, b: m(b[0]), [], task.verify), task.verify)
    with pytest.raises(BadInput, match=r"original model in batch 0 has shape \(16, 5\)"):
        _ = broken.mean_loss
    failing = Task(task.model, cross_entropy, [], task.verify, metric=lambda m, b: {}["accuracy"])
    with pytest.raises(BadInput, match="metric fails with KeyError: 'accuracy'"):
        metric_of(failing, task.model, task.verify)


def test_modes_are_left_as_they_were(task: Task) -> None:
    task.model.train()
    _ = Original(task, task.verify).mean_loss
    assert task.model.training
    assert not task.model._forward_hooks


def test_buffers_are_left_as_they_were() -> None:
    class Counter(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            self.last = x
            return super().forward(x)

    model = Counter(2, 2)
    model.register_buffer("calls", torch.tensor(3))
    model.register_buffer("last", None)
    calls = model.calls
    with evaluating(model):
        model(torch.ones(1, 2))
        assert (int(model.calls), model.last is None) == (4, False)
    assert model.calls is calls
    assert (int(model.calls), model.last) == (3, None)


def test_an_observer_gives_double_precision_worthy_losses() -> None:
    model = nn.Linear(2, 3).half()
    losses, logits, _ = Observer(model, lambda m, b: m(b).float().sum(1))(0, torch.ones(4, 2).half())
    assert logits is not None
    assert logits.shape == (4, 3)
    assert math.isfinite(float(losses.sum()))


def test_outputs_of_a_call_of_our_own_are_of_the_batch_as_it_was_given(task: Task) -> None:
    """The loss has the model write into its copy; what ``forward`` is given has not been written into."""
    x, y = task.verify[0]  # type: ignore[index]
    observer = Observer(task.model, cross_entropy, forward=lambda model, batch: model(batch[0]))
    logits = observer(0, (x, y)).logits
    linear: Any = task.model.linear
    torch.testing.assert_close(logits, linear(x + 1).detach(), rtol=1e-5, atol=1e-5, check_stride=False)


def test_functions_that_call_a_model_of_their_own_are_refused(task: Task) -> None:
    mine = task.model  # as a notebook's global does
    told = "calls the original model itself, whatever module it is given"
    wrong = dataclasses.replace(task, loss=lambda _, batch: cross_entropy(mine, batch))
    with pytest.raises(BadInput, match=f"loss {told}"):
        _ = Original(wrong, wrong.verify).mean_loss
    inside = dataclasses.replace(task, loss=lambda _, batch: mine.linear(batch[0]).square().sum(1))
    with pytest.raises(BadInput, match=f"loss {told}"):
        _ = Original(inside, inside.verify).mean_loss
    wrong = dataclasses.replace(task, metric=lambda _, batches: accuracy(mine, batches))
    with pytest.raises(BadInput, match=f"metric {told}"):
        _ = Original(wrong, wrong.verify).mean_loss


def test_a_loss_may_compare_with_the_original_and_call_a_part(task: Task) -> None:
    teacher = task.model

    def distance(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return (model(batch[0].clone()) - teacher(batch[0].clone())).square().sum(1)  # both write into their input

    beside = dataclasses.replace(task, loss=distance)
    assert Original(beside, beside.verify).mean_loss == 0.0
    part = dataclasses.replace(task, loss=lambda model, batch: model.linear(batch[0]).square().sum(1), metric=None)
    assert Original(part, part.verify).mean_loss > 0


class Part(World):
    """A rank whose sums are what it adds itself."""

    def sum_(self, tensor: Tensor) -> Tensor:
        return tensor


@pytest.mark.parametrize(("size", "spare", "shares"), [(1, True, [5]), (2, False, [3, 2]), (3, True, [3, 2, 0])])
def test_ranks_share_batches(size: int, spare: bool, shares: list[int]) -> None:
    """What the ranks add up is what one finds alone: every batch is looked at once."""
    batches = [torch.full((count,), float(count)) for count in (3, 1, 4, 2, 6)]
    parts, seen = [], []
    for rank in range(size):
        looked: list[int] = []

        def look(number: int, batch: torch.Tensor, looked: list[int] = looked) -> torch.Tensor:
            looked.append(number)
            return torch.stack([batch, torch.full_like(batch, number)], 1)

        parts.append(gathered(batches, look, 2, Part(rank, size), spare))
        seen.append(len(looked))
    assert seen == shares
    assert sum(parts).tolist() == [[len(b), k] for k, b in enumerate(batches) for _ in b]  # type: ignore[union-attr]
