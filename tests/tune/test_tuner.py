from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from noworse.errors import BadInput
from noworse.propose.grids.compensated import start_at
from noworse.propose.grids.grid import GridSet, GridSpec
from noworse.task.data import Batch
from noworse.task.distances import KL
from noworse.tune import attach as memory
from noworse.tune.objective import Objective, Response
from noworse.tune.options import Options
from noworse.tune.progress import ProgressLine
from noworse.tune.sampling import Sampler
from noworse.tune.tuner import FINAL_RATE, MEASURE_EVERY, Hooks, Tuner
from tests.tiny import mlp

SIDE = 100  # bytes that the file costs besides its codes


def grid_set(module: nn.Module, names: list[str]) -> GridSet:
    parameters = dict(module.named_parameters())
    specs = [GridSpec(name, tuple(parameters[name].shape), "float32") for name in names]
    return GridSet(specs, {name: parameters[name] for name in names}, 0.6)


@pytest.fixture
def tuner() -> Tuner:
    """An MLP on random data; a file of ideal codes and 100 bytes."""
    return make(Options(iterations=300))


def make(options: Options, progress: list[ProgressLine] | None = None) -> Tuner:
    model = mlp()
    teacher = mlp()
    x = torch.randn(300, 20, generator=torch.Generator().manual_seed(0))
    grids = grid_set(model, ["0.weight", "0.bias", "2.weight", "2.bias"])
    sampler = Sampler([x], options.batch, options.seed)

    def forward(module: nn.Module, batch: Batch) -> Tensor:
        return module(batch)  # type: ignore[no-any-return]

    @torch.no_grad()
    def teach(batch: Batch, outputs: Tensor | None) -> tuple[Batch, Response]:
        return batch, Response(forward(teacher, batch))

    steps: list[ProgressLine] = [] if progress is None else progress
    hooks = Hooks(teach, lambda: SIDE + math.ceil(float(grids.bits.sum()) / 8), steps.append)
    return Tuner(model, grids, sampler, Objective(KL(), forward), options, hooks)


def begin(tuner: Tuner, budget: float) -> None:
    sensitivity = {spec.name: 1.0 for spec in tuner.grids.specs}
    tuner.reset(1e-3 * start_at(tuner.grids, sensitivity, 1.3 * budget, tuner.grids.meter(tuner.values)))


@pytest.mark.parametrize("rate", [1.2, 2.5])
def test_a_run_ends_at_its_budget(tuner: Tuner, rate: float) -> None:
    budget = rate * tuner.grids.count + 8 * SIDE
    begin(tuner, budget)
    tuner.run(budget, 300)
    assert tuner.bits() == pytest.approx(budget, rel=0.03)
    assert tuner.side_bits == pytest.approx(8 * SIDE, abs=8)


def test_settling_brings_the_size_between_two_bounds(tuner: Tuner) -> None:
    budget = 2.0 * tuner.grids.count + 8 * SIDE
    begin(tuner, budget)
    tuner.run(budget, 100)
    size = tuner.bits() / 8
    for low, high in ((0.955 * size, 0.965 * size), (0.995 * size, 1.005 * size)):
        assert tuner.settle(low, high)
        assert low <= tuner.bits() / 8 <= high
    assert not tuner.settle(0.5 * SIDE, 0.6 * SIDE)  # less than what is not codes


def test_a_second_run_goes_on_to_another_budget(tuner: Tuner) -> None:
    budget = 2.0 * tuner.grids.count + 8 * SIDE
    begin(tuner, budget)
    tuner.run(budget, 300)
    for factor in (0.75, 0.9):
        tuner.run(factor * budget, 300)
        assert tuner.bits() == pytest.approx(factor * budget, rel=0.05)


def test_tuning_lowers_the_loss_at_the_size(tuner: Tuner) -> None:
    """Against the starting grid of the same number of bits."""

    @torch.no_grad()
    def loss() -> float:
        x = torch.randn(2000, 20, generator=torch.Generator().manual_seed(7))
        return tuner.objective.distance(tuner.student(x), mlp()(x)).mean().item()

    budget = 1.5 * tuner.grids.count + 8 * SIDE
    sensitivity = {spec.name: 1.0 for spec in tuner.grids.specs}
    start_at(tuner.grids, sensitivity, budget - 8 * SIDE, tuner.grids.meter(tuner.values))
    tuner.grids.quantise(tuner.values)
    rounded = loss()
    begin(tuner, budget)
    tuner.run(budget, 300)
    assert tuner.bits() < 1.03 * budget
    assert loss() < 0.7 * rounded


def test_one_iteration_moves_every_leaf(tuner: Tuner) -> None:
    budget = 2.0 * tuner.grids.count + 8 * SIDE
    begin(tuner, budget)
    leaves = (tuner.grids.latent, tuner.grids.log_step, tuner.grids.log_zone)
    before = [leaf.clone() for leaf in leaves]
    tuner.run(budget, 1)
    for leaf, old in zip(leaves, before, strict=True):
        assert (leaf != old).double().mean() > 0.9
        assert torch.isfinite(leaf).all()


def test_the_student_ends_on_its_grid(tuner: Tuner) -> None:
    budget = 2.0 * tuner.grids.count + 8 * SIDE
    begin(tuner, budget)
    tuner.run(budget, 30)
    expected = torch.empty(tuner.grids.count)
    tuner.grids.quantise(expected)
    assert torch.equal(tuner.values, expected)
    assert torch.equal(tuner.student[0].weight, expected[: 20 * 64].view(64, 20))  # type: ignore[index]


def test_progress_is_told_regularly() -> None:
    steps: list[ProgressLine] = []
    tuner = make(Options(iterations=60), steps)
    budget = 2.0 * tuner.grids.count + 8 * SIDE
    begin(tuner, budget)
    tuner.run(budget, 60, "practice")
    assert [step.iteration for step in steps] == [MEASURE_EVERY, 2 * MEASURE_EVERY, 60]
    assert {(step.stage, step.iterations) for step in steps} == {("practice", 60)}
    assert steps[-1].seconds_left == 0
    assert steps[-1].budget == pytest.approx(budget / 8)
    assert all(step.loss > 0 and step.size > SIDE for step in steps)


def test_rates_rise_and_fall_to_a_small_share(tuner: Tuner) -> None:
    rates = []
    for iteration in range(300):
        tuner._set_rates(iteration, 300)
        rates.append(tuner.optimiser.param_groups[0]["lr"] / Options().lr_weights)
    assert rates[0] == pytest.approx(1 / Options().warm_up)
    assert max(rates) > 0.97
    assert rates[-1] == pytest.approx(FINAL_RATE, rel=0.01)


def test_a_loss_that_is_no_number_stops_the_run(tuner: Tuner) -> None:
    begin(tuner, 4000.0)
    tuner.objective.distance = lambda outputs, original: (outputs * torch.nan).sum(-1)  # type: ignore[assignment]
    with pytest.raises(BadInput, match="became nan at iteration 0 of tune"):
        tuner.run(4000.0, 10)


def test_runs_are_the_same_with_shared_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for least in (memory.SHARED, 0):
        monkeypatch.setattr(memory, "SHARED", least)
        tuner = make(Options(iterations=30))
        assert (tuner.gradient is tuner.values) == (least == 0)
        begin(tuner, 2.0 * tuner.grids.count)
        tuner.run(2.0 * tuner.grids.count, 30)
        found.append((*(t.clone() for t in tuner.grids.tensors), tuner.values.clone()))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_tensors_that_a_pass_leaves_out_have_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SHARED", 0)
    tuner = make(Options())
    begin(tuner, 2.0 * tuner.grids.count)
    monkeypatch.setattr(tuner, "objective", lambda module, batch, seen: module[2](batch[:, :1].expand(-1, 64)).mean(1))
    tuner.learn()
    sizes = torch.split(tuner.values, tuner.grids.sizes)
    assert [bool(part.any()) for part in sizes] == [spec.name.startswith("2.") for spec in tuner.grids.specs]
