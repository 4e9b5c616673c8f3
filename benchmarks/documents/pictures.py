"""The picture of the README, and LLC's Figure 1 for every net of the zoo."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.documents.results import main_case
from benchmarks.documents.tables import TITLES, titled
from benchmarks.harness.row import Rows, Values, values_of
from benchmarks.suites.l2 import measured_cases
from benchmarks.suites.llc_neighborhood import NETS, PAPER_SIZES, short

matplotlib.use("Agg")
CHANGE = "loss change"
COLUMNS = 4
STYLES = {"activations": "-", "weights": "--"}
GAPS = {"first": ("o", "#2f6f9f"), "second": ("s", "#c0622f")}


def ratios(rows: Rows, out: Path) -> None:
    """Bars of the compression ratio, with the file size and the upper bound of the loss difference beside each."""
    values, units = values_of(rows), {row.name: row.unit for row in rows}
    names = [case for case in measured_cases(values) if main_case(case)]
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(names) + 1.0), layout="constrained")
    lengths = [values[f"{name}: ratio"] for name in names]
    axes.barh(range(len(names)), lengths, color="#2f6f9f", height=0.62)
    for place, (name, ratio) in enumerate(zip(names, lengths, strict=True)):
        size, row = values[f"{name}: file"] / 1000, f"{name}: its upper bound"
        told = f"{size:,.1f} kB, loss at most {values[row]:+.4f} {units[row]}"
        axes.text(ratio + 0.5, place, told, va="center", fontsize=9)
    axes.set_yticks(range(len(names)), [titled(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1.7 * max(lengths))
    axes.set_xlabel("times smaller than the fp32 tensors, by size of the whole file")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=110)


def neighbourhoods(rows: Rows, out: Path) -> None:
    """What Taylor's first and second order miss, by the size of noise, one panel per net; nothing without rows."""
    values = values_of(rows)
    nets = [net for net in NETS if _names(net, "weights", CHANGE)[-1] in values]
    if not nets:
        return
    lines = -(-len(nets) // COLUMNS)
    figure, panels = plt.subplots(
        lines, COLUMNS, figsize=(3 * COLUMNS, 2.6 * lines), sharex=True, squeeze=False, layout="constrained"
    )
    for axes in panels.flat[len(nets) :]:
        axes.set_axis_off()
    for axes, net in zip(panels.flat, nets, strict=False):
        _panel(axes, net, values)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=6, fontsize=8)
    figure.supxlabel("noise, uniform within ± this", fontsize=9)
    figure.supylabel("loss", fontsize=9)
    figure.savefig(out, dpi=110)
    plt.close(figure)


def _panel(axes: Axes, net: str, values: Values) -> None:
    for where, style in STYLES.items():
        changes = [abs(values[name]) for name in _names(net, where, CHANGE)]
        axes.plot(PAPER_SIZES, changes, style, color="0.6", label=f"loss change, {where}")
        for order, (mark, color) in GAPS.items():
            gaps = [values[name] for name in _names(net, where, f"|gap| of {order} order")]
            label = f"gap of {order} order, {where}"
            axes.plot(PAPER_SIZES, gaps, style, marker=mark, markersize=3, color=color, label=label)
    axes.set(xscale="log", yscale="log")
    axes.set_title(TITLES.get(short(net), short(net)), fontsize=9)
    axes.tick_params(labelsize=7)


def _names(net: str, where: str, end: str) -> list[str]:
    return [f"{net}, all {where}, noise {size:g}: {end}" for size in PAPER_SIZES]
