from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.jobs.lesson import Lesson
from noworse.jobs.survey import Survey, curvature, survey
from noworse.run.processes import ALONE
from noworse.survey.subject import Subject
from noworse.tune.options import Options
from tests.tiny import mlp, task


def surveyed(model: nn.Module, known: Survey, **options: object) -> tuple[Survey, nn.Module]:
    job = task(model)
    subject = Subject(job, list(job.calib))
    student, _ = subject.folded()
    lesson = Lesson(subject, student, Options(**options), ALONE)  # type: ignore[arg-type]
    return survey(lesson, student, dict(student.named_parameters()), known), student


def test_every_tensor_has_a_sensitivity_and_every_layer_its_moments() -> None:
    found, _ = surveyed(mlp(), Survey())
    assert list(found.sensitivity) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert min(found.sensitivity.values()) > 0
    assert set(found.layers) == {"0.weight", "2.weight"}
    assert found.unused == []
    nearest, _ = surveyed(mlp(), Survey(), rounding="nearest")
    assert nearest.layers == {}


def test_what_is_known_is_taken_over() -> None:
    first, _ = surveyed(mlp(), Survey())
    marked = Survey({**first.sensitivity, "0.weight": 123.0}, first.layers)
    again, _ = surveyed(mlp(), marked)
    assert again.sensitivity == marked.sensitivity
    assert again.layers["2.weight"] is first.layers["2.weight"]
    partly, _ = surveyed(mlp(), Survey({"0.weight": 123.0}))
    assert partly.sensitivity == pytest.approx({**first.sensitivity, "0.weight": 123.0})


def test_names_follow_a_student_in_factors() -> None:
    known = Survey({"a.bias": 2.0, "b": 3.0}).renamed({"a.1.bias": "a.bias", "c.1.bias": "c.bias"})
    assert known.sensitivity == {"a.bias": 2.0, "b": 3.0, "a.1.bias": 2.0}


def test_a_model_without_gradients_is_refused() -> None:
    class Detached(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).detach()  # type: ignore[no-any-return]

    with pytest.raises(BadInput, match="no parameter influences the model's outputs"):
        surveyed(Detached(nn.Linear(20, 4)).eval(), Survey())


def test_curvature_is_that_of_layers_worth_factors() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 80), nn.ReLU(), nn.Linear(80, 80), nn.ReLU(), nn.Linear(80, 4)).eval()
    job = task(model)
    subject = Subject(job, list(job.calib))
    student, _ = subject.folded()
    assert list(curvature(Lesson(subject, student, Options(), ALONE), student)) == ["2"]
