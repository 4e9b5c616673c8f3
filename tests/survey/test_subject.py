from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from noworse.errors import BadInput
from noworse.survey.subject import Outputs, Subject, usable
from noworse.task import data
from noworse.task.data import Batch
from tests.tiny import ConvNet, Odd, mlp, task


def test_the_teacher_computes_what_the_original_does_and_is_another_module() -> None:
    job = task(ConvNet().bfloat16(), 1, 12, 12)
    subject = Subject(job, list(job.calib))
    batch = subject.calib[0]
    assert subject.teacher is not job.model
    assert {p.dtype for p in subject.teacher.parameters()} == {torch.float32}
    torch.testing.assert_close(subject.original(batch), job.model(batch).float(), rtol=0.05, atol=0.05)
    folded, norms = subject.folded()
    assert list(norms) == ["bn1", "bn2"]
    torch.testing.assert_close(subject.forward(folded, batch), subject.original(batch), rtol=1e-3, atol=1e-3)


def test_samples_that_are_held_back_are_never_shown() -> None:
    job = task(mlp())
    subject = Subject(job, list(job.calib), 0.2, seed=3)
    shown = {tuple(row.tolist()) for batch in subject.samples(1000) for row in batch}  # type: ignore[union-attr]
    held = {tuple(row.tolist()) for batch in subject.held_back for row in batch}  # type: ignore[union-attr]
    assert (len(shown), len(held)) == (240, 60)
    assert not shown & held
    unseen = subject.unseen(70, 32)
    assert sum(map(data.batch_size, unseen)) == 60
    assert all(tuple(row.tolist()) in held for batch in unseen for row in batch)  # type: ignore[union-attr]
    everything = Subject(job, list(job.calib))
    assert everything.held_back == []
    assert sum(map(data.batch_size, everything.samples(110, 30))) == 130  # 100 of the first batch, 30 of the second


def test_a_forward_that_writes_into_its_input_changes_no_batch() -> None:
    class Writing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(20, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.layer(x.mul_(2))  # type: ignore[no-any-return]

    job = task(Writing().eval())
    before = [batch.clone() for batch in job.calib]  # type: ignore[union-attr]
    subject = Subject(job, list(job.calib))
    first, second = (subject.original(subject.calib[0]) for _ in range(2))
    assert torch.equal(first, second)
    assert all(torch.equal(a, b) for a, b in zip(before, job.calib, strict=True))  # type: ignore[arg-type]


def test_a_forward_that_changes_its_state_is_refused() -> None:
    class Counter(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            return super().forward(x)  # type: ignore[no-any-return]

    model = Counter(*mlp(8).children())
    model.register_buffer("calls", torch.tensor(0))
    job = task(model)
    with pytest.raises(BadInput, match="a call of the model in eval mode changes its buffer 'calls'"):
        Subject(job, list(job.calib))


def test_bytes_and_kept_tensors() -> None:
    model = Odd()
    subject = Subject(task(model, keep=["last.*"]), list(task(model).calib))
    tied_once = [value for name, value in model.state_dict().items() if name != "echo"]
    assert subject.original_bytes == sum(value.numel() * value.element_size() for value in tied_once)
    assert subject.kept == {"last.weight", "last.bias"}


def test_outputs_are_computed_once_as_far_as_there_is_room() -> None:
    seen: list[float] = []

    def run(batch: Batch) -> Tensor:
        assert isinstance(batch, Tensor)
        seen.append(float(batch[0]))
        return 2 * batch

    known, batches = Outputs(run, 100), [torch.full((10,), float(k)) for k in range(4)]  # 40 bytes each
    for _ in range(2):
        for (batch, outputs), expected in zip(known(iter(batches)), batches, strict=True):
            assert batch is expected
            torch.testing.assert_close(outputs, 2 * expected)
    assert seen == [0, 1, 2, 3, 2, 3]


@pytest.mark.parametrize(
    ("outputs", "message"),
    [
        (torch.zeros(3), "are \\(3,\\) torch.float32"),
        (torch.zeros(3, 2).long(), "int64"),
        (torch.zeros(4, 2), "B = 3 samples"),
        (torch.full((3, 2), torch.nan), "NaN or infinite"),
    ],
)
def test_outputs_that_cannot_be_compared(outputs: Tensor, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        usable(outputs, 3)


def test_a_task_whose_outputs_are_no_numbers_is_refused_at_once() -> None:
    job = task(mlp())
    with pytest.raises(BadInput, match="outputs on calib"):
        Subject(replace(job, forward=lambda model, batch: model(batch).argmax(1)), list(job.calib))


def test_masks_of_pruning_are_no_part_of_the_model() -> None:
    model: Any = mlp()
    plain = Subject(task(model), list(task(model).calib)).original_bytes
    prune.l1_unstructured(model[0], "weight", 0.5)
    assert Subject(task(model), list(task(model).calib)).original_bytes == plain
