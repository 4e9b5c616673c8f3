"""What fails in what users wrote is told in one sentence, which says what to write instead."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.errors import BadInput
from noworse.jobs.quantize import quantize_task
from noworse.task.calls import described, told
from noworse.task.task import Task
from tests.tiny import mlp, run, task


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(16)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.net(a + b)  # type: ignore[no-any-return]


class Cast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = mlp(16).bfloat16()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x.bfloat16())  # type: ignore[no-any-return]


def two(n: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.randn(n, 20), torch.randn(n, 20), torch.randint(0, 4, (n,))


def two_loss(model: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(model(*batch[:2]).float(), batch[2], reduction="none")


def first_loss(model: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(model(batch[0]).float(), batch[1], reduction="none")


def named(n: int) -> dict[str, Tensor]:
    return {"input": torch.randn(n, 20), "y": torch.randint(0, 4, (n,))}


def named_loss(model: nn.Module, batch: Any) -> Tensor:
    return F.cross_entropy(model(batch["input"]), batch["y"], reduction="none")


def one(n: int) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 20), torch.randint(0, 4, (n,))


CASES = {
    "two inputs": (Two(), two_loss, two, r"fails on a tuple of float32 \(8, 20\), .*lambda model, batch: model\(\*b"),
    "label key": (mlp(), named_loss, named, r"expected model\(input=..., y=...\), with labels under label, labels, t"),
    "a dtype of its own": (Cast(), first_loss, one, r"casts to the dtype of its weights"),
    "loss of outputs": (
        mlp(),
        nn.CrossEntropyLoss(),
        one,
        r"loss of the original model fails in batch 0, ",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_first_call_that_fails_says_what_is_called_how(tmp_path: Path, name: str) -> None:
    model, loss, make, message = CASES[name]
    job = Task(model, loss, [make(40)], [make(40)])
    with pytest.raises(BadInput, match=message) as caught:
        run(job, tmp_path / "x.nwt", 3)
    assert caught.value.__cause__ is not None
    with pytest.raises(BadInput, match=message):
        quantize_task(job, bits=6, progress=None)


def test_what_the_sentence_says_helps(tmp_path: Path) -> None:
    job = Task(Two(), two_loss, [two(40)], [two(40)], forward=lambda model, batch: model(*batch[:2]))
    run(job, tmp_path / "x.nwt", 2, iterations=1)
    run(task(mlp(16)), tmp_path / "y.nwt", 2, iterations=1)


@pytest.mark.parametrize(("made", "message"), [(None, "what augment returned is NoneType"), (1 / 2, "is float")])
def test_augment_that_makes_no_batch(tmp_path: Path, made: Any, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        run(replace(task(mlp(16)), augment=lambda batch: made), tmp_path / "x.nwt", 3)


def test_augment_that_fails(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"augment fails with ZeroDivisionError: .*: expected augment\(batch\)"):
        run(replace(task(mlp(16)), augment=lambda batch: batch[1 // 0]), tmp_path / "x.nwt", 3)


def test_batches_in_words() -> None:
    x = torch.zeros(2, 3)
    assert described(x) == "a tensor of float32 (2, 3)"
    assert described([x, x[:, 0].long()]) == "a list of float32 (2, 3), int64 (2,)"
    assert described({"ids": x}) == "a dict of ids: float32 (2, 3)"


def test_errors_of_ours_pass_through() -> None:
    with pytest.raises(BadInput, match=r"^mine$"), told("it fails", lambda: "more"):
        raise BadInput("mine")
