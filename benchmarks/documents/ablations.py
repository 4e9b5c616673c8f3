"""The tables and pictures of docs/ablations.md from the rows of ``benchmarks.ablations``."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from benchmarks.harness.page import Tables
from benchmarks.harness.row import Rows
from benchmarks.harness.table import markdown
from benchmarks.suites.ablation_cases import BASELINE, GROUPS, NETS, Case, Group, Trial
from benchmarks.suites.ablations import Results, results_of

matplotlib.use("Agg")
CROWDED = 10  # largest over smallest value of an axis, from where fewer numbers fit beside it
MARGIN = 1.2  # of the largest and smallest value in a picture


@dataclass(frozen=True)
class Line:
    """One case on one net: its results and the baseline's, by seed."""

    case: Case
    found: dict[int, Mapping[str, float]]
    base: dict[int, Mapping[str, float]]

    def mean(self, name: str) -> float:
        """Mean over seeds of one measured value."""
        return fmean(result[name] for result in self.found.values())

    @property
    def logs(self) -> list[float]:
        """ln of the KL over the baseline's of the same seed."""
        seeds = self.found.keys() & self.base.keys()
        return [math.log(self.found[s]["kl"] / self.base[s]["kl"]) for s in sorted(seeds)]


def by_seed(results: Results, net: str, case: Case) -> dict[int, Mapping[str, float]]:
    """What is stored of one case on one net."""
    trials = (Trial(net, case, seed) for seed in range(case.seeds))
    return {trial.seed: results[trial.key] for trial in trials if trial.key in results}


def lines_of(results: Results, group: Group, net: str) -> list[Line]:
    """The baseline and then the cases of a group, as far as there are results."""
    base = by_seed(results, net, BASELINE)
    cases = (BASELINE, *group.cases) if group.baseline else group.cases
    lines = [Line(case, by_seed(results, net, case), base) for case in cases]
    return [line for line in lines if line.found]


def spread_of(results: Results) -> float:
    """Standard deviation of ln of the ratio of two KLs, between seeds, pooled over all cases of several."""
    squares, freedom = 0.0, 0
    for group in GROUPS.values():
        for net in group.nets:
            for line in lines_of(results, group, net):
                logs = line.logs
                if line.found != line.base and len(logs) > 1:
                    squares += sum((x - fmean(logs)) ** 2 for x in logs)
                    freedom += len(logs) - 1
    return math.sqrt(squares / freedom) if freedom else math.nan


def verdict(line: Line, spread: float) -> str:
    """Whether a case differs from the baseline by more than twice the standard error."""
    if line.found == line.base or not line.logs:
        return ""
    if math.isnan(spread):
        return "one seed"
    if abs(fmean(line.logs)) <= 2 * spread / math.sqrt(len(line.logs)):
        return "not resolved"
    return "better" if fmean(line.logs) < 0 else "worse"


def table(lines: list[Line], spread: float) -> str:
    """The cases of one group on one net."""
    head = ["setting", "ratio", "KL", "against the baseline", "verdict", "loss difference", "seeds", "seconds"]
    return markdown(head, ([
        line.case.label, f"{line.mean('ratio'):.2f}", f"{line.mean('kl'):.4f}",
        f"{math.exp(fmean(line.logs)):.2f}" if line.logs else "", verdict(line, spread),
        f"{line.mean('difference'):+.4f} ({line.mean('lower'):+.4f} to {line.mean('upper'):+.4f})",
        str(len(line.found)), f"{line.mean('seconds'):.0f}",
    ] for line in lines))  # fmt: skip


def readable(axis: Axis) -> None:
    """A few plain numbers on a logarithmic axis."""
    low, high = axis.get_view_interval()
    wide = high > CROWDED * low
    axis.set_major_locator(LogLocator(subs=(1.0, 3.0) if wide else (1.0, 1.5, 2.0, 3.0, 5.0, 7.0), numticks=99))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_locator(NullLocator())
    axis.set_tick_params(labelrotation=45)


def dots(axes: Axes, lines: list[Line]) -> None:
    """The KL of every seed beside the name of its case, the mean as a bar."""
    for place, line in enumerate(lines):
        values = [result["kl"] for result in line.found.values()]
        colour = "#555555" if line.found == line.base else "#2f6f9f"
        axes.plot(values, [place] * len(values), "o", color=colour, alpha=0.55, markersize=5)
        mean = math.exp(fmean(map(math.log, values)))
        axes.plot([mean, mean], [place - 0.3, place + 0.3], "-", color=colour, linewidth=2)
    axes.axvline(math.exp(fmean(math.log(r["kl"]) for r in lines[0].base.values())), color="#bbbbbb", zorder=0)
    axes.set_yticks(range(len(lines)), [line.case.label for line in lines])
    axes.set_ylim(len(lines) - 0.5, -0.5)
    axes.set_xscale("log")
    everything = [result["kl"] for line in lines for result in line.found.values()]
    axes.set_xlim(min(everything) / MARGIN, max(everything) * MARGIN)
    readable(axes.xaxis)
    axes.set_xlabel("KL to the original, nats")


def draw(results: Results, group: Group, out: Path) -> None:
    """One picture of a group: a panel for each net."""
    panels = [(net, lines) for net in group.nets if (lines := lines_of(results, group, net))]
    size = 5.2 + 2.6 * (len(panels) - 1), 1.1 + 0.3 * max(len(lines) for _, lines in panels)
    figure, axes = plt.subplots(1, len(panels), figsize=size, layout="constrained", squeeze=False, sharey=True)
    for (net, lines), panel in zip(panels, axes[0], strict=True):
        dots(panel, lines)
        panel.set_title(f"{NETS[net].title} at {NETS[net].ratio:g}x", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def pictures(rows: Rows, folder: Path) -> None:
    """Write ``ablation-*.png`` of every group that has results."""
    results = results_of(rows)
    for name, group in GROUPS.items():
        if any(lines_of(results, group, net) for net in group.nets):
            draw(results, group, folder / f"ablation-{name}.png")


def nets(rows: Rows) -> str:
    """Which nets were compressed how far, and by how much seeds differ."""
    results = results_of(rows)
    lines = ([net.title, f"{net.ratio:g}", str(net.options["iterations"]), f"{math.exp(spread_of(results)):.2f}"]
             for name, net in NETS.items() if by_seed(results, name, BASELINE))  # fmt: skip
    return markdown(["net", "ratio", "iterations", "factor between seeds (one deviation, of all nets)"], lines)


def groups(rows: Rows) -> str:
    """A part of the page for each group: its question, its picture, and a table for each of its nets."""
    results, parts = results_of(rows), []
    for name, group in GROUPS.items():
        tables = {net: lines for net in group.nets if (lines := lines_of(results, group, net))}
        if tables:
            parts.append(f"## {group.question}\n\n![KL of every setting](figures/ablation-{name}.png)")
        for net, lines in tables.items():
            parts.append(f"**{NETS[net].title}, {NETS[net].ratio:g}x**\n\n{table(lines, spread_of(results))}")
    return "\n\n".join(parts)


TABLES: Tables = {"ablations: nets": nets, "ablations: groups": groups}
