from __future__ import annotations

import pytest

from noworse.errors import BadInput
from noworse.format import packed_size
from noworse.jobs.draft import Draft, Terms
from noworse.jobs.landing import LEAST, land
from noworse.survey.subject import Subject
from noworse.tune.options import Options
from tests.tiny import ConvNet, task


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
