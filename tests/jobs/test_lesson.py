from __future__ import annotations

import pytest
import torch
from torch import Tensor

from noworse.errors import BadInput
from noworse.jobs.lesson import Lesson
from noworse.run.processes import ALONE, World
from noworse.survey.subject import Subject
from noworse.task import data
from noworse.tune.options import Options
from tests.tiny import ConvNet, mlp, task


def lesson(world: World = ALONE, augment: object = None, **options: object) -> tuple[Lesson, Subject]:
    job = task(mlp(), augment=augment)
    subject = Subject(job, list(job.calib))
    return Lesson(subject, subject.folded()[0], Options(**options), world), subject  # type: ignore[arg-type]


def test_what_is_taught_is_what_the_original_makes_of_a_batch() -> None:
    made, subject = lesson()
    assert len(made.sampler.outputs) == 1, "computed once and kept"
    batch, outputs = next(iter(made.sampler))
    taught, seen = made.teach(batch, outputs)
    torch.testing.assert_close(seen.outputs, subject.original(taught))


def test_varied_batches_are_taught_as_they_were_varied() -> None:
    made, subject = lesson(augment=lambda batch: 2 * batch)
    assert made.sampler.outputs == []
    batch, outputs = next(iter(made.sampler))
    assert isinstance(batch, Tensor)
    taught, seen = made.teach(batch, outputs)
    assert torch.equal(taught, 2 * batch)  # type: ignore[arg-type]
    torch.testing.assert_close(seen.outputs, subject.original(2 * batch))
    shrinking, _ = lesson(augment=lambda batch: batch[:3])
    with pytest.raises(BadInput, match="augment made 3 samples of 32"):
        shrinking.teach(batch, None)


def test_ranks_are_taught_a_share_each() -> None:
    parts = []
    for rank in range(3):
        made, _ = lesson(World(rank, 3))
        batch, outputs = next(iter(made.sampler))
        taught, seen = made.teach(batch, outputs)
        assert len(seen.outputs) == data.batch_size(taught)
        parts.append(taught)
    assert torch.equal(torch.cat(parts), batch)  # type: ignore[arg-type]


def test_losses_of_the_student_are_zero_while_it_is_the_original() -> None:
    made, subject = lesson()
    student = subject.folded()[0]
    assert made.distortion(student) == pytest.approx(0, abs=1e-6)
    assert made.loss(student) == pytest.approx(0, abs=1e-6)
    with torch.no_grad():
        next(student.parameters()).mul_(1.1)
    assert made.distortion(student) > 1e-4


def test_features_are_taught_by_a_copy_of_the_student() -> None:
    job = task(ConvNet(), 1, 12, 12)
    subject = Subject(job, list(job.calib))
    student, _ = subject.folded()
    made = Lesson(subject, student, Options(features=("auto",)), ALONE)
    assert made.teacher is not subject.teacher
    assert made.names
    made.require(student)


def test_labels_that_are_not_there_are_named() -> None:
    made, subject = lesson(label_weight=0.5)
    with pytest.raises(BadInput, match="expected batches with labels where label_weight is set"):
        made.require(subject.folded()[0].requires_grad_(True))
