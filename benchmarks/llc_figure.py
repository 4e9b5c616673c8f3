"""LLC's Figure 1 for every net of the zoo, from the rows of ``benchmarks.llc`` (``benchmarks.publish``)."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks.llc_neighborhood import NETS, PAPER_SIZES, short
from benchmarks.pages import TITLES, Values

CHANGE = "loss change"
COLUMNS = 4
STYLES = {"activations": "-", "weights": "--"}
GAPS = {"first": ("o", "#2f6f9f"), "second": ("s", "#c0622f")}


def neighbourhoods(values: Values, out: Path) -> None:
    """What Taylor's first and second order miss, by the size of noise, one panel per net; nothing without rows."""
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
