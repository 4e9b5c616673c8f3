"""LLC's quantisation: how few bits are no worse, against its published form and other allocations, on held-out data.

``python -m benchmarks.llc [--quick] [--json FILE] [--check] [--only SECTION ...]``

Everything is judged on the 10,000 test images, which no setting was chosen on. ``--quick`` takes 500 of them, less of
calib and the smallest net. A section is NET-smallest, NET-equal, NET-controls, NET-neighborhood, or allocation,
calibration, integers, minilm, sensitivity; --json keeps the rows of others where sections are chosen.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import numpy as np

from benchmarks import llc_calibration, llc_equal, llc_integers, llc_neighborhood, llc_sensitivity
from benchmarks.llc_nets import EIGHT, NETS
from benchmarks.table import Row, Section, run_sections
from noworse.allocate.knapsack import Choices, knapsack
from noworse.jobs.quantize import quantize_task
from noworse.task.task import load_task

MINILM_BITS = 7.5  # per weight: its calibration data has no pairs of texts, on which a tolerance could be tried
LEE = 0.01  # what the correlation may fall by


def sections_of(net: str) -> dict[str, Section]:
    """Those of one convolutional net; of the smallest alone in a quick run."""

    def section(part: Callable[[str, bool], list[Row]]) -> Section:
        return lambda quick: [] if quick and net != NETS[0] else part(net, quick)

    return {f"{net}-{part.__name__}": section(part) for part in llc_equal.PARTS}


def neighborhood_of(net: str) -> Section:
    """How far Taylor expansions of one net's loss reach; of the first net alone in a quick run."""
    return lambda quick: [] if quick and net != llc_neighborhood.NETS[0] else llc_neighborhood.rows(quick, [net])


def allocation(quick: bool) -> list[Row]:
    """The time of a proven optimum for 200 layers with 12 choices each."""
    rng = np.random.default_rng(0)
    bits = np.arange(2, 14)
    counts = rng.integers(1000, 1_000_000, 200)
    costs = [(rng.lognormal(0, 1, 12) * n * 4.0**-bits).tolist() for n in counts]
    choices = Choices(costs, [(n * bits).astype(float).tolist() for n in counts])
    rows = []
    for share in (2.5, 4.0, 6.0):
        begin = time.perf_counter()
        knapsack(choices, share * float(counts.sum()))
        spent = time.perf_counter() - begin
        rows.append(Row(f"200 layers, 12 choices, {share} bits: proven optimum", spent, "s", "<= 1"))
    return rows


def minilm(quick: bool) -> list[Row]:
    """A published text encoder: Lee's correlation (LLC's BERT: 45 % dropped)."""
    if quick:
        return []
    found = quantize_task(load_task("zoo/minilm.py:minilm"), bits=MINILM_BITS, activations=EIGHT)
    verdict = found.verdict
    fallen = (verdict.metric_original or 0.0) - (verdict.metric_compressed or 0.0)
    rows = llc_equal.outcome("minilm, weights and inputs", found, ">= 75")
    return [*rows, Row("minilm: Lee's correlation falls by", fallen, "", f"<= {LEE}")]


SECTIONS: dict[str, Section] = {
    **{name: section for net in NETS for name, section in sections_of(net).items()},
    "allocation": allocation,
    "calibration": llc_calibration.rows,
    "integers": llc_integers.rows,
    "minilm": minilm,
    "sensitivity": functools.partial(llc_sensitivity.rows, splits=(llc_sensitivity.TEST,)),
    **{f"{llc_neighborhood.short(net)}-neighborhood": neighborhood_of(net) for net in llc_neighborhood.NETS},
}


if __name__ == "__main__":
    run_sections(SECTIONS, __doc__.splitlines()[0])
