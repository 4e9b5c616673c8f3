"""The promise of the rate control: any size is met, from above, within one per cent."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tiny import mlp, run, task

RATIOS = [2.6 * (11.0 / 2.6) ** (k / 19) for k in range(20)]


@pytest.mark.slow
def test_twenty_targets(tmp_path: Path) -> None:
    """From 12 down to 2.9 bits per weight."""
    job = task(mlp(600))
    found = [run(job, tmp_path / "x.nwt", ratio, iterations=10) for ratio in RATIOS]
    errors = [report.size / (report.original_size / ratio) - 1 for report, ratio in zip(found, RATIOS, strict=True)]
    assert len(errors) == 20
    assert max(errors) <= 0
    assert min(errors) >= -0.01
