"""The one search of all three verbs: predict how much a size loses, go where the tolerance is met, look, back off.

Where to go is a place on a line: a budget in bits, bits per weight, or the price of a parameter. ``within`` finds the
place by predictions on held-back calibration samples, which may be asked as often as one likes; ``look`` then asks
held-out data, as seldom as possible, and takes a larger result where the verdict is not good enough.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeVar

import torch
from torch import nn
from torch.nn import functional as F

from noworse.errors import BadInput
from noworse.judge.verdict import Verdict, chance_of_error
from noworse.judge.verify import compare
from noworse.survey.subject import Subject
from noworse.task.distances import are_logits, per_sample

Result = TypeVar("Result")

STEEPNESS = 3.4  # −d ln(loss) / d ln(bits of codes), typical of nets at 1-2 bits per weight
LARGEST_CHANGE = 0.7  # of ln(bits) in one round
TINY = 1e-9  # a loss, at least, where logarithms are taken
CAUTION = 1.2  # the judge's bound is wider than the normal one, for skewness


@dataclass
class PowerLaw:
    """A budget in bits, of which ``floor`` are no codes: the loss is taken to fall with a power of the codes' bits."""

    at: float
    floor: float = 0.0
    least: float = 0.0

    def tell(self, bound: float, limit: float) -> float:
        """Return the budget where the bound should meet the limit; codes change by a factor of two at the most."""
        change = math.log(max(bound, TINY) / max(limit, TINY)) / STEEPNESS
        change = max(-LARGEST_CHANGE, min(LARGEST_CHANGE, change))
        return max(self.floor + (self.at - self.floor) * math.exp(change), self.least)


class Bisection:
    """The middle between a place that is too much (``over``) and one that ``fits``; ``best`` is the last that did."""

    def __init__(self, over: float, fits: float, geometric: bool = False) -> None:
        self.over, self.fits, self.geometric = over, fits, geometric  # geometric: finer where numbers are small
        self.best: float | None = None
        self.at = self._middle()

    def _middle(self) -> float:
        return math.sqrt(self.over * self.fits) if self.geometric else 0.5 * (self.over + self.fits)

    def tell(self, bound: float, limit: float) -> float:
        """Return the middle of the half that is left."""
        if bound <= limit:
            self.fits = self.best = self.at
        else:
            self.over = self.at
        return self._middle()


def within(
    line: PowerLaw | Bisection,
    attempt: Callable[[float, int], None],
    bound: Callable[[], float],
    limit: float,
    rounds: int,
    note: Callable[[str, Callable[[], float]], float] = lambda name, action: action(),
) -> None:
    """Move ``line`` towards the smallest place whose predicted ``bound`` stays within ``limit``.

    In each round ``attempt(at, round)`` makes what is there and ``bound()`` predicts how it is judged; ``note`` may
    know the outcome of a round from a run that was interrupted.
    """
    for number in range(1, rounds + 1):
        attempt(line.at, number)
        line.at = note(f"budget {number}", lambda: line.tell(bound(), limit))


def look(
    results: Iterable[tuple[int, Result]], judge: Callable[[Result, int], Verdict], looks: int
) -> tuple[Result, Verdict]:
    """Judge numbered results, each larger than the one before, until one passes or the declared looks are spent.

    Returns the last result that was judged, and the verdict of ``judge(result, number)`` on it.
    """
    for number, result in results:
        verdict = judge(result, number)
        if verdict.passed or number >= looks:
            break
    return result, verdict


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
        differences = torch.from_numpy(pair.compressed - pair.original)
        return float(differences.mean()), float(differences.std())
