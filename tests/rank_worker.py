"""One rank of tests/run/test_processes.py: compresses as told by its arguments, prints what came of each as JSON."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from noworse import BadInput, NoWorseError, Options
from noworse.jobs.compress import compress_task
from noworse.run import resume as work
from noworse.task.task import Task
from noworse.tune import adam, attach
from tests.tiny import mlp, task

UNTUNED = Options(iterations=0, batch=7, bias_correction=True)


def jitter(batch: Tensor) -> Tensor:
    """Noise of torch's global generator, as an augmentation draws it."""
    return batch + 0.05 * torch.randn_like(batch)


def accuracy(model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Share of right predictions."""
    return float(torch.cat([(model(x).argmax(1) == y).double() for x, y in batches]).mean())


def after(batches: int, action: Callable[[], Any]) -> Callable[[Tensor], Tensor]:
    """An augmentation that acts in its own way after some batches."""
    seen = []

    def augment(batch: Tensor) -> Tensor:
        seen.append(1)
        if len(seen) > batches:
            action()
        return batch

    return augment


def refuse() -> None:
    raise BadInput("this sample cannot be used")


def crash() -> None:
    raise ZeroDivisionError("a bug of the caller's")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def in_survey(batches: int, action: Callable[[], Any]) -> Callable[[nn.Module, Any], Tensor]:
    """A forward that acts in its own way after some batches with gradients: the first ones are the survey's."""
    seen = []

    def forward(model: nn.Module, batch: Any) -> Tensor:
        seen.extend([1] * torch.is_grad_enabled())
        if len(seen) > batches:
            action()
        return model(batch[0] if isinstance(batch, tuple) else batch)  # type: ignore[no-any-return]

    return forward


def job(name: str, rank: int) -> Task:
    """The task of a case, as rank 1 differs in it."""
    plain = task(mlp())
    if name in ("rank 0 dies", "rank 1 dies"):
        return dataclasses.replace(plain, forward=in_survey(3, die)) if str(rank) in name else plain
    if name in ("whole", "stopped", "resumed"):
        action: Callable[[], Any] = refuse if name == "stopped" and rank == 1 else int
        return dataclasses.replace(plain, augment=after(17, action))
    if name in ("refuse", "crash", "die"):
        return dataclasses.replace(plain, augment=after(5, globals()[name] if rank == 1 else int))
    if name == "other data" and rank == 1:
        return dataclasses.replace(plain, calib=[1.5 * torch.as_tensor(batch) for batch in plain.calib])
    if name == "other images" and rank == 1:
        return dataclasses.replace(plain, verify=plain.verify[:-1])
    return dataclasses.replace(plain, augment=jitter, metric=accuracy) if name == "jitter" else plain


def outcome(name: str, folder: Path, rank: int) -> dict[str, Any]:
    """The report of a case, or its error, with what is left in the folder."""
    out = folder / f"{name}.nwt"
    adam.LARGE = attach.SHARED = 1 << (10 if name in ("whole", "stopped", "resumed") else 21)  # of 1,604 weights
    try:
        folder_for_work = folder / "work" if name in ("stopped", "resumed", "rank 0 dies", "rank 1 dies") else None
        options = UNTUNED if name == "untuned" else Options(iterations=40, batch=1 if name == "single" else 30)
        report = compress_task(
            job(name.split("-")[0], rank),
            out,
            target=14,
            tolerance=None,
            options=options,
            progress=None,
            work=folder_for_work,
        )
    except (NoWorseError, ZeroDivisionError) as error:
        return {"error": type(error).__name__, "message": str(error), "left": sorted(p.name for p in folder.iterdir())}
    digest = hashlib.sha256(out.read_bytes()).hexdigest()
    return {"report": json.loads(report.to_json()), "digest": digest}


if __name__ == "__main__":
    torch.set_num_threads(1)
    work.EVERY = 0.0
    for name in sys.argv[2:]:
        found = outcome(name, Path(sys.argv[1]), int(os.environ["RANK"]))
        print(json.dumps({"name": name, **found}), flush=True)
