"""A checkpoint put into another tuner makes it go on as the first one does; whole runs are in tests/run/test_resume."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from noworse.run.resume import State
from noworse.tune.checkpoint import checkpoint, resume
from noworse.tune.options import Options
from noworse.tune.tuner import Tuner
from tests.tune.test_tuner import SIDE, begin, make


class Stored:
    """A run's folder that holds one checkpoint."""

    def __init__(self, state: State) -> None:
        self.tensors = {name: tensor.clone() for name, tensor in state.tensors.items()}
        self.position = copy.deepcopy(state.position)

    def read_into(self, state: State) -> None:
        assert state.tensors.keys() == self.tensors.keys()
        for name, tensor in state.tensors.items():
            tensor.copy_(self.tensors[name])

    def offer(self, *_: object) -> None:
        pass


def go_on(tuner: Tuner, budget: float) -> tuple[Tensor, ...]:
    for _ in range(5):
        tuner._iterate(budget, True)
    return tuner.grids.state()


def test_the_next_iterations_are_the_same() -> None:
    first, second = make(Options()), make(Options())
    budget = 2.0 * first.grids.count + 8 * SIDE
    begin(first, budget)
    go_on(first, budget)
    at = {"stage": "tune", "iteration": 5, "start": 1234.0, "running": 0.5}
    object.__setattr__(second.hooks, "work", Stored(checkpoint(first, at)))
    expected = go_on(first, budget)
    assert resume(second) == (5, 1234.0, 0.5)
    assert second.drawn == 5
    assert all(torch.equal(a, b) for a, b in zip(expected, go_on(second, budget), strict=True))


def test_without_one_a_stage_begins_at_its_start() -> None:
    tuner = make(Options())
    begin(tuner, 3000.0)
    assert resume(tuner) == (0, tuner.bits(), 0.0)
