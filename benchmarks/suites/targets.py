"""How well file sizes land: 20 targets from 4x to 60x on LeNet-5, a few iterations each."""

from __future__ import annotations

import tempfile
from pathlib import Path

import noworse as nw
from benchmarks.harness import Row, Run, Suite, main

TARGETS, LOWEST, HIGHEST = 20, 4.0, 60.0


def rows(run: Run) -> list[Row]:
    """The largest misses over all targets."""
    task = nw.load_task("zoo/fashion_mnist.py:lenet5")
    count = 3 if run.quick else TARGETS
    ratios = [LOWEST * (HIGHEST / LOWEST) ** (k / (count - 1)) for k in range(count)]
    settings = nw.Options(iterations=10 if run.quick else 60)
    misses = []
    with tempfile.TemporaryDirectory() as folder:
        for ratio in ratios:
            report = nw.compress_task(
                task, Path(folder) / "x.nwt", target=ratio, tolerance=None, options=settings, progress=None
            )
            misses.append(100 * (report.size / (report.original_size / ratio) - 1))
    return [
        Row("targets: largest deviation of a file from its size", max(map(abs, misses)), "%", "<= 1"),
        Row("targets: the largest file against its size", max(misses), "%", "<= 0"),
        Row("targets: how many", len(misses), ""),
    ]


SUITE = Suite("targets", __doc__, {"targets": rows})

if __name__ == "__main__":
    main(SUITE)
