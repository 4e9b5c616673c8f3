"""Tasks of the zoo, for the checker and by name for the command line: ``tests.conformance.tasks:NAME``."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.task import data
from noworse.task.task import Task
from tests.conformance.registry import Given, zoo


def forward(given: Given, module: nn.Module, batch: Any) -> Tensor:
    """Outputs (B, ..., K) of a model on a batch with labels."""
    own = given.extras.get("forward")
    return (own or data.forward)(module, batch).float()


def labelled(given: Given, count: int) -> Any:
    """A batch of samples with labels drawn from what the model itself says."""
    batch = given.inputs(count)
    whole = batch if isinstance(batch, (tuple, list, Mapping)) else (batch,)
    with torch.no_grad():
        outputs = forward(given, given.model, copy.deepcopy(whole))
    if given.extras.get("distill", "kl") == "kl":
        labels = outputs.softmax(-1).flatten(0, -2).multinomial(1).view(outputs.shape[:-1])
    else:
        labels = outputs + 0.3 * torch.randn_like(outputs)
    return {**whole, "labels": labels} if isinstance(whole, Mapping) else type(whole)([*whole, labels])


def fields_of(given: Given) -> dict[str, Any]:
    """The fields of a case's task: a few batches whose labels are drawn from the model."""
    regress = given.extras.get("distill", "kl") != "kl"

    def loss(module: nn.Module, batch: Any) -> Tensor:
        outputs = forward(given, module, batch)
        labels = batch["labels"] if isinstance(batch, Mapping) else batch[-1]
        if regress:
            return (outputs - labels).square().flatten(1).mean(1)
        each = F.cross_entropy(outputs.flatten(0, -2), labels.flatten(), reduction="none")
        return each.view(len(outputs), -1).mean(1)

    modes = {name: part.training for name, part in given.model.named_modules()}
    torch.manual_seed(1)
    given.model.eval()
    calib = [labelled(given, size) for size in given.sizes]
    held_out = [labelled(given, 2 * size) for size in given.sizes]
    for name, part in given.model.named_modules():
        part.training = modes[name]
    return {"model": given.model, "loss": loss, "calib": calib, "verify": held_out, **given.extras}


def __getattr__(name: str) -> Any:
    slugs = {key.replace(" ", "_").replace("-", "_"): case for key, case in zoo().items()}
    if name not in slugs:
        raise AttributeError(name)
    return lambda: Task(**fields_of(slugs[name].build()), name=name)
