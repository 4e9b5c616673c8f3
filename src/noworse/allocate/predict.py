"""Predicts the verdict on held-out data from calibration samples that nothing was fitted to."""

from __future__ import annotations

import math
from statistics import NormalDist

import torch
from torch import nn
from torch.nn import functional as F

from noworse.errors import BadInput
from noworse.judge.compare import compare
from noworse.judge.verdict import chance_of_error
from noworse.survey.subject import Subject
from noworse.task.distances import are_logits, per_sample

CAUTION = 1.2  # the judge's bound is wider than the normal one, for skewness


class Predictor:
    """Predicts the upper bound, in the loss's unit, of the first of ``looks`` paired tests on so many ``samples``.

    The samples that are asked are those that ``subject`` holds back.
    """

    def __init__(self, subject: Subject, samples: int, confidence: float, looks: int = 1) -> None:
        self.subject, self.samples = subject, samples
        self.quantile = CAUTION * NormalDist().inv_cdf(1 - chance_of_error(confidence, 1, looks))

    def bound(self, student: nn.Module) -> float:
        """Return the predicted mean loss difference of ``student`` plus its sampling error."""
        mean, deviation = (self._outputs if are_logits(self.subject.task.distill) else self._losses)(student)
        return mean + self.quantile * deviation / math.sqrt(self.samples)

    @torch.no_grad()
    def _outputs(self, student: nn.Module) -> tuple[float, float]:
        """Mean and deviation of ln p/p̂ of a label drawn from the original's own softmax p: no labels are needed.

        The mean is the KL divergence, what the loss rises by if the original is calibrated.
        """
        means, squares = [], []
        for batch in self.subject.held_back:
            log_p, log_q = (F.log_softmax(self.subject.forward(m, batch), -1) for m in (self.subject.teacher, student))
            difference = log_p - log_q
            means.append(per_sample((log_p.exp() * difference).sum(-1)))
            squares.append(per_sample((log_p.exp() * difference.square()).sum(-1)))
        mean, square = float(torch.cat(means).mean()), float(torch.cat(squares).mean())
        return mean, math.sqrt(max(square - mean**2, 0.0))

    def _losses(self, student: nn.Module) -> tuple[float, float]:
        """Mean and deviation of the paired loss differences, where outputs are not logits."""
        task = self.subject.task
        try:
            pair = compare(self.subject.teacher, student, task.loss, self.subject.held_back, task.forward, task.distill)
        except Exception as error:  # anything may come out of the caller's code; the cause stays attached
            message = f"within a tolerance and with distill={task.distill!r}, the loss must work on calib: {error}"
            raise BadInput(message) from error
        differences = torch.as_tensor(pair.compressed - pair.original)
        return float(differences.mean()), float(differences.std())
