"""The search within a tolerance: predict the verdict from calibration data that tuning does not see."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from noworse.errors import BadInput
from noworse.judge.compare import compare
from noworse.task.data import Batch
from noworse.task.distances import per_sample
from noworse.task.task import Task

STEEPNESS = 3.4  # −d ln(loss) / d ln(bits of codes), typical of nets at 1-2 bits per weight
TINY = 1e-9
CAUTION = 1.2  # the judge's bound is wider than the normal one, for skewness
LARGEST_CHANGE = 0.7  # of ln(bits) in one round


class Compared(Protocol):
    """Two models, and how they are called."""

    teacher: nn.Module
    student: nn.Module

    def forward(self, module: nn.Module, batch: Batch) -> Tensor:
        """Outputs (B, ..., K) of a module."""


class Predictor:
    """Predicts the upper bound of the paired test on ``samples`` held-out samples, in the loss's unit."""

    def __init__(
        self, task: Task, workspace: Compared, batches: Sequence[Batch], samples: int, confidence: float
    ) -> None:
        self.task, self.workspace, self.batches = task, workspace, batches
        self.samples = samples
        self.quantile = CAUTION * NormalDist().inv_cdf(confidence)

    def bound(self) -> float:
        """Predicted mean loss difference plus its sampling error, of the student as it is now."""
        mean, deviation = self._outputs() if self.task.distill == "kl" else self._losses()
        return mean + self.quantile * deviation / math.sqrt(self.samples)

    @torch.no_grad()
    def _outputs(self) -> tuple[float, float]:
        """Mean and deviation of ln p/p̂ of a label drawn from the original's own softmax p: no labels are needed.

        The mean is the KL divergence, what the loss rises by if the original is calibrated.
        """
        means, squares = [], []
        for batch in self.batches:
            log_p, log_q = (
                F.log_softmax(self.workspace.forward(module, batch), -1)
                for module in (self.workspace.teacher, self.workspace.student)
            )
            difference = log_p - log_q
            means.append(per_sample((log_p.exp() * difference).sum(-1)))
            squares.append(per_sample((log_p.exp() * difference.square()).sum(-1)))
        mean, square = float(torch.cat(means).mean()), float(torch.cat(squares).mean())
        return mean, math.sqrt(max(square - mean**2, 0.0))

    def _losses(self) -> tuple[float, float]:
        """Mean and deviation of the paired loss differences, where outputs are not logits."""
        try:
            models = self.workspace.teacher, self.workspace.student
            found = compare(*models, self.task.loss, self.batches, self.task.forward, self.task.distill)
        except Exception as error:
            message = f"within a tolerance and with distill={self.task.distill!r}, the loss must work on calib: {error}"
            raise BadInput(message) from error
        differences = torch.as_tensor(found.compressed - found.original)
        return float(differences.mean()), float(differences.std())


def next_budget(budget: float, bound: float, limit: float, floor: float) -> float:
    """The budget in bits where the predicted bound should meet ``limit``; ``floor`` are the bits besides the codes."""
    change = math.log(max(bound, TINY) / max(limit, TINY)) / STEEPNESS
    change = max(-LARGEST_CHANGE, min(LARGEST_CHANGE, change))
    return floor + (budget - floor) * math.exp(change)
