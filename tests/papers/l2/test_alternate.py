"""The official schedule: its start, who moves when and how far, the switch of λ, and a whole compression."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from noworse.errors import BadInput
from noworse.format import File
from noworse.jobs.draft import Draft, Terms
from noworse.papers.l2 import alternate
from noworse.papers.l2.alternate import AlternatingTuner
from noworse.survey.subject import Subject
from noworse.tune.options import Options, choose
from tests.tiny import mlp, task

ITERATIONS = 13


def draft(iterations: int = 39) -> Draft:
    given = task(mlp())
    options = replace(choose(None, "paper"), iterations=iterations)
    made = Draft(Subject(given, list(given.calib)), Terms(options))
    made.start(1e9)
    return made


def test_it_starts_from_a_256th_of_the_range_with_light_pruning() -> None:
    grids = draft().grids
    for k, spec in enumerate(grids.specs):
        w = grids.weights(k)
        assert float(grids.steps()[k]) == pytest.approx(float(w.max() - w.min()) / 256, rel=2.0**-8)
        assert float(grids.zones()[k]) == (1.0 if len(spec.shape) > 1 else 0.5)


def recorded(made: Draft, budget: float, iterations: int) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Weights, steps and edges before every iteration of a run, and after the last."""
    tuner, states = made.tuner, []
    assert isinstance(tuner, AlternatingTuner)
    turn = tuner.turn

    def watch(*arguments: float) -> tuple[float, float]:
        states.append((tuner.weight.clone(), tuner.step.clone(), tuner.edge.clone()))
        return turn(*arguments)  # type: ignore[arg-type]

    tuner.turn = watch  # type: ignore[method-assign]
    tuner.run(budget, iterations)
    states.append((tuner.weight.clone(), tuner.step.clone(), tuner.edge.clone()))
    return states


def test_transforms_and_weights_take_turns_and_move_in_weight_units() -> None:
    states = recorded(draft(), 1.0, 39)
    moved = []
    for before, after in pairwise(states):
        moved.append([bool((b != a).any()) for b, a in zip(before, after, strict=True)])
    assert moved == 3 * (3 * [[False, True, True]] + 10 * [[True, False, False]])
    faster = alternate.PUBLISHED / 39
    first = (states[1][1] - states[0][1]).abs()  # Adam's first step is its learning rate, whatever the gradient
    assert first.max() == pytest.approx(alternate.TRANSFORM_RATE * faster, rel=1e-3)
    first = (states[4][0] - states[3][0]).abs()
    assert first.max() == pytest.approx(alternate.WEIGHT_RATE * faster, rel=1e-2)


def test_gradients_by_step_and_edge_are_those_of_the_official_form() -> None:
    """T⁻¹(T(w)) in e and s, by autograd, against what the schedule derives from gradients by ln s and r."""
    made = draft()
    tuner, grids = made.tuner, made.grids
    assert isinstance(tuner, AlternatingTuner)
    tuner.run(1.0, 0)
    upstream = torch.randn(grids.count)
    grids.quantise(tuner.values)
    grids.gradients(tuner.values, upstream.clone(), 0.0, False)
    tuner._step_transforms()
    assert tuner.step.grad is not None
    assert tuner.edge.grad is not None
    for k, spec in enumerate(grids.specs):
        made.start(1e9)
        s = grids.steps()[k].clone().requires_grad_()
        e = (grids.steps()[k] * grids.zones()[k]).clone().requires_grad_()
        edge = e if len(spec.shape) > 1 else s / 2
        w = grids.weights(k)
        c = torch.where(w.abs() <= edge, w / (2 * edge), w.sign() * (0.5 + (w.abs() - edge) / s))
        q = c + (c.round() - c).detach()
        values = torch.where(q.abs() <= 0.5, 2 * edge * q, q.sign() * (edge + (q.abs() - 0.5) * s))
        rows = slice(grids.offsets[k], grids.offsets[k + 1])
        (values * upstream[rows]).sum().backward()
        assert s.grad is not None
        assert float(tuner.step.grad[k]) == pytest.approx(float(s.grad), rel=2e-2, abs=0.05)
        assert float(tuner.edge.grad[k]) == pytest.approx(0.0 if e.grad is None else float(e.grad), rel=2e-2, abs=0.05)


@pytest.mark.parametrize(("budget", "factor"), [(1.0, 1.0), (1e9, alternate.IDLE)])
def test_lambda_is_switched_by_the_size(budget: float, factor: float) -> None:
    made, seen = draft(), []
    gradients = made.grids.gradients

    def watch(values: Tensor, grad: Tensor, multiplier: float, on_weights: bool) -> None:
        seen.append(multiplier)
        gradients(values, grad, multiplier, on_weights)

    made.grids.gradients = watch  # type: ignore[method-assign]
    made.tuner.run(budget, 13)
    expected = factor * alternate.PER_BIT / made.lesson.distance.scale
    assert seen[0] == pytest.approx(expected)
    assert set(seen) == {seen[0], 0.0}


def test_a_compression_by_the_paper_preset(tmp_path: Path) -> None:
    from noworse import compress_task

    options = replace(choose(None, "paper"), iterations=39)
    report = compress_task(
        task(mlp()), tmp_path / "m.nwt", target="5 bits", tolerance=None, options=options, progress=None
    )
    assert report.size == (tmp_path / "m.nwt").stat().st_size
    with File(tmp_path / "m.nwt") as file:
        file.check()
        assert file.settings["plugins"] == {"tuner": "alternating", "rate": "official"}


@pytest.mark.parametrize("transform", ["log", "uniform"])
def test_it_knows_dead_zones_alone(transform: str) -> None:
    with pytest.raises(BadInput, match=f"tuner 'alternating' was given transform '{transform}': expected the standard"):
        Options(plugins={"tuner": "alternating", "transform": transform})


class Killed(Exception):
    pass


def test_a_killed_run_goes_on_to_the_same_file(tmp_path: Path) -> None:
    from noworse import compress_task

    options = replace(choose(None, "paper"), iterations=60)

    def run(name: str, kill: bool = False, **given: Path) -> bytes:
        def progress(step: object) -> None:
            if kill and getattr(step, "iteration", 0) == 50:
                raise Killed

        compress_task(
            task(mlp()), tmp_path / name, target="5 bits", tolerance=None, options=options, progress=progress, **given
        )
        return (tmp_path / name).read_bytes()

    whole = run("whole")
    with pytest.raises(Killed):
        run("x", kill=True, work=tmp_path / "work")
    assert run("x", work=tmp_path / "work") == whole
