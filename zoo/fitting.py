"""What every training script of the zoo shares: recipe, loop, and weights on disk beside the log of their training."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.task.task import TaskUnavailable

WEIGHTS = Path(__file__).parent / "weights"
WARM_UP = 100  # iterations over which the rate rises where it is not one-cycle


@dataclass(frozen=True)
class Recipe:
    """Training settings of one net; the learning rate follows a one-cycle schedule over all iterations.

    With ``anneal`` it is constant after a short rise, and falls linearly to zero over that many last epochs: how long
    to train can then be decided on the way, from a checkpoint (Hägele et al. 2024).
    """

    optimiser: str = "sgd"
    rate: float = 0.1
    decay: float = 5e-4
    epochs: int = 8
    batch: int = 128
    seed: int = 0
    shift: int = 2  # pixels of random translation; with a random horizontal flip
    bfloat16: bool = False  # whether matrix products are taken in bfloat16 (faster on CPUs that have it)
    anneal: int = 0


def fit(
    model: nn.Module,
    epoch: Callable[[], Iterable[Any]],
    steps: int,
    loss: Callable[[nn.Module, Any], Tensor],
    judge: Callable[[nn.Module], dict[str, float]],
    recipe: Recipe,
    checkpoint: Path | None = None,
) -> list[dict[str, float]]:
    """Train ``model`` and leave it in eval mode; returns one log row per epoch.

    ``epoch()`` yields ``steps`` batches, ``loss`` is a mean over one of them, and ``judge`` measures the model on
    development data after every epoch. With a ``checkpoint`` a training that was interrupted goes on after the last
    epoch that it finished, as if it had not been where batches are drawn with torch's own generator.
    """
    kind = {"sgd": lambda p: torch.optim.SGD(p, recipe.rate, 0.9, nesterov=True, weight_decay=recipe.decay),
            "adamw": lambda p: torch.optim.AdamW(p, recipe.rate, weight_decay=recipe.decay)}[recipe.optimiser]
    optimiser = kind(model.parameters())
    schedule = _schedule(optimiser, recipe, steps)
    parts = {"model": model, "optimiser": optimiser, "schedule": schedule}
    log: list[dict[str, float]] = []
    if checkpoint is not None and checkpoint.exists():
        kept = torch.load(checkpoint, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(kept[name])
        log = kept["log"]
        torch.set_rng_state(kept["generator"])
    start = time.time() - (log[-1]["seconds"] if log else 0.0)
    for number in range(len(log), recipe.epochs):
        model.train()
        total = 0.0
        for batch in epoch():
            with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
                found = loss(model, batch)
            optimiser.zero_grad()
            found.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimiser.step()
            schedule.step()
            total += found.item()
        model.eval()
        scores = {key: round(value, 5) for key, value in judge(model).items()}
        seconds = round(time.time() - start, 1)
        log.append({"epoch": number + 1, "train_loss": round(total / steps, 5), **scores, "seconds": seconds})
        print(log[-1], flush=True)
        if checkpoint is not None:
            states: dict[str, Any] = {name: part.state_dict() for name, part in parts.items()}
            torch.save({**states, "log": log, "generator": torch.get_rng_state()}, checkpoint)
    return log


def _schedule(optimiser: torch.optim.Optimizer, recipe: Recipe, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    total = recipe.epochs * steps
    if not recipe.anneal:
        return torch.optim.lr_scheduler.OneCycleLR(
            optimiser, recipe.rate, total, pct_start=0.2, cycle_momentum=False
        )

    def share(step: int) -> float:
        return min(1.0, (step + 1) / WARM_UP, (total - step) / (recipe.anneal * steps))

    return torch.optim.lr_scheduler.LambdaLR(optimiser, share)


def save(name: str, model: nn.Module, recipe: Recipe, log: list[dict[str, float]], scores: dict[str, float]) -> None:
    """Write ``weights/NAME.safetensors`` and ``weights/NAME.json``."""
    WEIGHTS.mkdir(exist_ok=True)
    path = WEIGHTS / f"{name}.safetensors"
    save_model(model, str(path))  # a tensor of two names is written once
    record = {"net": name, "recipe": asdict(recipe), "torch": torch.__version__, "log": log, **scores,
              "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
    (WEIGHTS / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    print(name, scores, flush=True)


def restore(name: str, model: nn.Module, command: str, folder: Path = WEIGHTS) -> nn.Module:
    """``model`` with its trained weights in eval mode, their file checked against the SHA-256 of the training log.

    TaskUnavailable, with the ``command`` that trains the net, where there is no such file; BadInput where it changed.
    """
    path, record = folder / f"{name}.safetensors", folder / f"{name}.json"
    if not (path.exists() and record.exists()):
        raise TaskUnavailable(f"{path} or its .json is missing: train it with `{command}`")
    found, expected = hashlib.sha256(path.read_bytes()).hexdigest(), json.loads(record.read_text())["sha256"]
    if found != expected:
        raise BadInput(f"{path} has SHA-256 {found}, but {record.name} records {expected}")
    load_model(model, path)
    return model.eval()
