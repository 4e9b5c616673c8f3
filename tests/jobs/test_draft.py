from __future__ import annotations

from pathlib import Path

import pytest
import torch

import noworse as nw
from noworse.errors import BadInput
from noworse.format import packed_size, write
from noworse.jobs.draft import LEAST, Draft, Terms, allocated, land
from noworse.propose.ranks.student import Plan
from noworse.survey.subject import Subject
from noworse.tune.options import Options
from noworse.tune.progress import ProgressLine
from tests.tiny import ConvNet, Odd, mlp, task


def draft(model: torch.nn.Module, *shape: int, **options: object) -> Draft:
    job = task(model, *shape)
    return Draft(Subject(job, list(job.calib)), Terms(Options(**options)))  # type: ignore[arg-type]


@pytest.mark.parametrize(("model", "shape"), [(mlp(), ()), (ConvNet(), (1, 12, 12)), (Odd(), ())])
def test_a_draft_measures_the_file_that_it_would_write(
    model: torch.nn.Module, shape: tuple[int, ...], tmp_path: Path
) -> None:
    made = draft(model, *shape)
    made.start(4.0 * made.grids.count)
    path = tmp_path / "x.nwt"
    assert write(path, made.items(), made.settings, coder="auto") == made.file_size()
    assert list(made.items()) == list(model.state_dict())
    loaded = nw.load_file(path)
    assert all(loaded[name].shape == value.shape for name, value in model.state_dict().items())


def test_sizes_known_while_tuning_are_those_of_the_file() -> None:
    """What the file takes beside its codes is measured of the same weights as these: in the next iteration it holds."""
    sizes: list[tuple[float, int]] = []

    def compare(line: ProgressLine) -> None:
        made.grids.quantise(made.tuner.values)  # as that one does at its beginning
        sizes.append((made.tuner.bits(), 8 * made.file_size()))

    job = task(ConvNet(), 1, 12, 12)
    made = Draft(Subject(job, list(job.calib)), Terms(Options()))
    made.start(2.2 * made.grids.count)
    object.__setattr__(made.tuner.hooks, "progress", compare)
    made.tuner.run(2.0 * made.grids.count, 60)
    made.tuner.settle(0, 1 << 20)
    sizes.append((made.tuner.bits(), 8 * made.file_size()))
    assert len(sizes) == 4
    assert all(known == size for known, size in sizes)


def test_nothing_smaller_than_the_floor_may_be_asked_for() -> None:
    made = draft(mlp(), layer_bits={"0.weight": (2.0, 3.0)})
    floors = 2.0 * 20 * 64 / 8
    assert made.least() == pytest.approx(1.02 * (made.floor() + floors))
    made.check_reachable(int(made.least()) + 1, "target")
    with pytest.raises(BadInput, match=r"are needed even with every weight pruned but the floors of layer_bits"):
        made.check_reachable(int(made.least()) - 1, "target 99")


def test_distortion_is_what_rounding_does_to_the_outputs() -> None:
    made = draft(mlp())
    losses = []
    for bits in (8.0, 4.0, 2.0):
        made.start(bits * made.grids.count)
        losses.append(made.distortion())
    assert losses == sorted(losses)
    assert losses[0] < 1e-3 < losses[2]


def test_a_plan_with_factors_shares_the_survey_of_all_that_it_leaves_alone() -> None:
    model = torch.nn.Sequential(
        torch.nn.Linear(20, 96), torch.nn.ReLU(), torch.nn.Linear(96, 96), torch.nn.Linear(96, 4)
    )
    dense = draft(model.eval(), methods="auto")
    assert list(dense.survey.analyses) == ["2"]
    planned = Draft(dense.subject, dense.terms, Plan(dense.survey.analyses, {"2": ("flat", 12)}), dense.survey)
    assert planned.survey.layers.held["0.weight"] is dense.survey.layers.held["0.weight"], "moments are not taken again"
    assert set(planned.survey.sensitivity) - set(dense.survey.sensitivity) == {"2.0.weight", "2.1.weight", "2.1.bias"}
    assert planned.survey.sensitivity["2.1.bias"] == dense.survey.sensitivity["2.bias"]
    assert set(planned.items()) == set(model.state_dict()), "the file knows no factors by name"


def test_without_analyses_there_is_nothing_to_plan() -> None:
    made = draft(mlp())
    assert allocated(made, 1e4, "plan") is made


def test_a_released_draft_still_tells_its_report() -> None:
    made = draft(ConvNet(), 1, 12, 12)
    made.start(4.0 * made.grids.count)
    made.release()
    assert made.survey.unused == []
    assert list(made.folded) == ["bn1", "bn2"]
    assert made.plan.ranks() == {}


def started(bits: float, iterations: int = 0) -> Draft:
    job = task(ConvNet(), 1, 12, 12)
    draft = Draft(Subject(job, list(job.calib)), Terms(Options(iterations=iterations)))
    draft.start(8 * bits)
    return draft


@pytest.mark.parametrize("size", [1200, 1800, 2600])
def test_a_file_lands_just_below_its_size_from_a_start_that_missed_it(size: int) -> None:
    for begin in (0.7 * size, float(size), 1.4 * size):
        draft = started(begin)
        landed = packed_size(land(draft, size), draft.settings, None, "auto")
        assert LEAST * size <= landed <= size


def test_a_tuned_draft_settles_by_a_few_more_iterations() -> None:
    draft = started(1500, 20)
    draft.tuner.run(8 * 1500, 20)
    landed = packed_size(land(draft, 1500), draft.settings, None, "auto")
    assert LEAST * 1500 <= landed <= 1500


def test_a_size_below_all_grids_is_refused() -> None:
    draft = started(1200)
    with pytest.raises(BadInput, match="no grid brings the file to 100 bytes"):
        land(draft, 100)
