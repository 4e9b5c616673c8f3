"""What a run tells while it goes on."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class ProgressLine:
    """One line of progress: what stage, how far, bytes now and wanted, and the loss of the last iterations."""

    stage: str
    iteration: int
    iterations: int
    size: float  # bytes
    budget: float  # bytes
    loss: float  # distillation loss, running mean
    seconds_left: float


Progress = Callable[[ProgressLine], None]


def stage(name: str, done: int = 0, of: int = 1) -> ProgressLine:
    """Return a line of a stage that has no size: how much of it is done, and of how much."""
    return ProgressLine(name, done, of, 0, 0, 0, 0)
