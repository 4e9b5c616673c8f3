from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.io import load_file
from noworse.jobs.lesson import Lesson
from noworse.jobs.survey import Survey, curvature, survey
from noworse.propose.grids.compensated import signed_codes
from noworse.run.processes import ALONE
from noworse.survey.subject import Subject
from noworse.tune.options import Options
from tests.tiny import Attention, mlp, run, task


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
    assert set(found.layers.left) == {"0.weight", "2.weight"}
    assert found.unused == []
    nearest, _ = surveyed(mlp(), Survey(), rounding="nearest")
    assert not nearest.layers


def test_recurrent_weights_have_moments_too() -> None:
    class Reader(nn.Module):
        """Inputs (B, 20) as four steps of a bidirectional GRU."""

        def __init__(self) -> None:
            super().__init__()
            self.rnn, self.head = nn.GRU(5, 6, batch_first=True, bidirectional=True), nn.Linear(12, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.rnn(x.view(-1, 4, 5))[0][:, -1])  # type: ignore[no-any-return]

    torch.manual_seed(0)
    found, student = surveyed(Reader().eval(), Survey())
    assert set(found.layers.left) == {name for name, p in student.named_parameters() if p.dim() == 2}
    assert found.layers.held["rnn.weight_hh_l0_reverse"].shape == (18, 6)


class Reader(nn.Module):
    """Two words of the inputs (B, 20) ask three, whose columns have much in common, the later ones with more energy."""

    def __init__(self, attend: nn.Module) -> None:
        super().__init__()
        self.attend, self.head = attend, nn.Linear(16, 4)

    def forward(self, x: Tensor) -> Tensor:
        words = (x.unfold(1, 8, 6) + 2 * x[:, None, :1]) * torch.logspace(-0.3, 0.3, 8)
        asked = self.attend(words[:, :2] - words[:, 2:], words, 2 * words.flip(1))
        return self.head((asked[0] if isinstance(asked, tuple) else asked).flatten(1))  # type: ignore[no-any-return]


def test_weights_of_attention_are_rounded_as_those_of_linear_layers_are() -> None:
    torch.manual_seed(0)
    model = Reader(nn.MultiheadAttention(8, 2, batch_first=True)).eval()
    same = Reader(Attention(model.attend)).eval()
    same.head.load_state_dict(model.head.state_dict())
    (found, student), (expected, _) = (surveyed(net, Survey(), damping=0.01) for net in (model, same))
    assert set(found.layers.left) == {name for name, p in student.named_parameters() if p.dim() == 2}
    weight = student.attend.in_proj_weight.detach()
    whole = found.layers.held["attend.in_proj_weight"].compensated(weight, 0.2, 0.6)
    changed = 0
    for rows, moved, name in zip(weight.chunk(3), whole.chunk(3), "qkv", strict=True):
        alone = expected.layers.held[f"attend.{name}.weight"].compensated(rows, 0.2, 0.6)
        assert torch.equal(signed_codes(moved, 0.2, 0.6), signed_codes(alone, 0.2, 0.6))
        changed += int((signed_codes(alone, 0.2, 0.6) != signed_codes(rows, 0.2, 0.6)).sum())
    assert changed > 10
    thirds = [expected.layers.held[f"attend.{name}.weight"] for name in "qkv"]
    left = math.prod(layer.curvature() * layer.energy for layer in thirds) ** (1 / 3)
    curvature = found.layers.held["attend.in_proj_weight"].curvature()
    assert curvature == pytest.approx(left / (sum(layer.energy for layer in thirds) / 3), rel=1e-4)
    assert curvature < 0.5


def test_what_is_known_is_taken_over() -> None:
    first, _ = surveyed(mlp(), Survey())
    marked = Survey({**first.sensitivity, "0.weight": 123.0}, first.layers)
    again, _ = surveyed(mlp(), marked)
    assert again.sensitivity == marked.sensitivity
    assert again.layers.held["2.weight"] is first.layers.held["2.weight"]
    partly, _ = surveyed(mlp(), Survey({"0.weight": 123.0}))
    assert partly.sensitivity == pytest.approx({**first.sensitivity, "0.weight": 123.0})


def test_names_follow_a_student_in_factors() -> None:
    known = Survey({"a.bias": 2.0, "b": 3.0}).renamed({"a.1.bias": "a.bias", "c.1.bias": "c.bias"})
    assert known.sensitivity == {"a.bias": 2.0, "b": 3.0, "a.1.bias": 2.0}


def test_a_model_without_gradients_is_refused() -> None:
    class Stepped(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).round()  # type: ignore[no-any-return]

    with pytest.raises(BadInput, match="no parameter influences the model's outputs"):
        surveyed(Stepped(nn.Linear(20, 4)).eval(), Survey())


def test_curvature_is_that_of_layers_worth_factors() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 80), nn.ReLU(), nn.Linear(80, 80), nn.ReLU(), nn.Linear(80, 4)).eval()
    job = task(model)
    subject = Subject(job, list(job.calib))
    student, _ = subject.folded()
    assert list(curvature(Lesson(subject, student, Options(), ALONE), student)) == ["2"]


class Routed(nn.Module):
    """Two experts, one of which a router chooses, and one that is never chosen."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.router = nn.Linear(20, 3)
        self.experts = nn.ModuleList(nn.Linear(20, 4) for _ in range(3))
        with torch.no_grad():
            self.router.bias[2] = -1e4

    def forward(self, x: Tensor) -> Tensor:
        chosen = self.router(x).argmax(1)
        result = x.new_zeros(len(x), 4)
        for number, expert in enumerate(self.experts):
            result[chosen == number] = expert(x[chosen == number])
        return result


def test_what_decides_without_a_gradient_is_told_from_what_is_idle(tmp_path: Path) -> None:
    model = Routed().eval()
    report = run(task(model, keep=["router.bias"]), tmp_path / "x.nwt", 3, iterations=5)
    assert set(report.unused) == {"router.weight", "experts.2.weight", "experts.2.bias"}
    found = load_file(tmp_path / "x.nwt")
    for name, steps in (("router.weight", 1 / 16), ("experts.2.weight", 1 / 2)):
        weight = model.state_dict()[name]
        error = (found[name] - weight).abs().max() / weight.square().mean().sqrt()
        assert steps / 4 < float(error) < 0.51 * steps


@pytest.mark.parametrize("how", ["body", "all"])
def test_forwards_without_gradients(tmp_path: Path, how: str) -> None:
    """Under no_grad altogether a net is compressed as without it; where a part is, its steps are fixed."""
    model, files = mlp(32), {}
    for frozen in (False, True):

        def forward(module: Any, batch: Any, frozen: bool = frozen) -> Tensor:
            with torch.set_grad_enabled(not frozen):
                hidden = module[:2](batch[0] if isinstance(batch, tuple) else batch)
            with torch.set_grad_enabled(not frozen or how == "body"):
                return module[2](hidden)

        report = run(task(model, forward=forward), tmp_path / "x.nwt", 4, iterations=3)
        files[frozen] = (tmp_path / "x.nwt").read_bytes()
        assert report.unused == (("0.weight", "0.bias") if frozen and how == "body" else ())
    assert (files[False] == files[True]) is (how == "all")
