"""The README's picture and tables of docs/, from stored results: ``python -m benchmarks.publish``.

Reads ``docs/results.json``, which ``python -m benchmarks.l2 --json docs/results.json`` wrote, and what other benchmarks
(``PAGES``) stored likewise; changes nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt

from benchmarks import llc_figure, llc_tables, lowrank_tables
from benchmarks.cases import ENDURANCE
from benchmarks.l2 import measured_cases
from benchmarks.pages import ROOT, TITLES, Values, all_rows, fill

matplotlib.use("Agg")
RESULTS = ("results", "fast", "counter", "targets", "paper", "anchors", "codec", "lossless", "datafree")
PAGES = {**dict.fromkeys(RESULTS, "results"), "lowrank": "lowrank", "llc": "llc", "scale": "scale"}
TABLES = {"lowrank": lowrank_tables.PARTS, "llc": llc_tables.PARTS}


def title(case: str) -> str:
    """What a case is called in the README."""
    model, _, rest = case.partition(" ")
    kind, _, number = rest.partition(" ")
    return TITLES[model] + (f" at {number}x" if kind == "at" else f", {rest}" if rest else "")


def endures(case: str) -> bool:
    """Whether the case shows what is lost at 30x or 50x."""
    return case.endswith((" at 30", " at 50"))


def draw(values: Mapping[str, float], units: Mapping[str, str], names: Sequence[str], out: Path) -> None:
    """Bars of the compression ratio, with the file size and the upper bound of the loss difference beside each."""
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(names) + 1.0), layout="constrained")
    ratios = [values[f"{name}: ratio"] for name in names]
    axes.barh(range(len(names)), ratios, color="#2f6f9f", height=0.62)
    for place, (name, ratio) in enumerate(zip(names, ratios, strict=True)):
        size, row = values[f"{name}: file"] / 1000, f"{name}: its upper bound"
        told = f"{size:,.1f} kB, loss at most {values[row]:+.4f} {units[row]}"
        axes.text(ratio + 0.5, place, told, va="center", fontsize=9)
    axes.set_yticks(range(len(names)), [title(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1.7 * max(ratios))
    axes.set_xlabel("times smaller than the fp32 tensors, by size of the whole file")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=110)


def table(values: Mapping[str, float], names: Sequence[str]) -> str:
    """One line of Markdown per case."""
    lines = ["| model | file | ratio | loss difference | bound | metric, original | in the file | changed | time |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for name in names:
        size, ratio, difference, bound, before, after, seconds = (
            values[f"{name}: {key}"]
            for key in (
                "file",
                "ratio",
                "loss difference",
                "its upper bound",
                "metric of the original",
                "metric of the file",
                "time",
            )
        )
        changed = f"{values[f'{name}: changed predictions']:.2f} %" if f"{name}: changed predictions" in values else "-"
        digits = 2 if before > 1 else 4
        lines.append(
            f"| {title(name)} | {size:,.0f} B | {ratio:.1f} | {difference:+.4f} | {bound:+.4f} | {before:.{digits}f} "
            f"| {after:.{digits}f} | {changed} | {seconds:.0f} s |"
        )
    return "\n".join(lines)


def page_text(rows: list[dict[str, Any]], parts: Mapping[str, Callable[[Values], str]]) -> str:
    """What a page shows of a benchmark: the tables that can be made of its rows, then all of them."""
    values = values_of(rows)
    tables = [(heading, part(values)) for heading, part in parts.items()]
    shown = [f"**{heading}**\n\n{text}\n\n" for heading, text in tables if text]
    return "".join(shown) + "**All rows**\n\n" * bool(shown) + all_rows(rows)


def stored_rows(name: str) -> list[dict[str, Any]]:
    """What ``docs/NAME.json`` holds."""
    return list(json.loads((ROOT / f"docs/{name}.json").read_text()))


def values_of(rows: list[dict[str, Any]]) -> Values:
    """The values of rows, by name."""
    return {row["name"]: float(row["value"]) for row in rows}


def main() -> None:
    for name, page in PAGES.items():
        if (ROOT / f"docs/{name}.json").exists():
            text = page_text(stored_rows(name), TABLES.get(name, {}))
            fill(ROOT / f"docs/{page}.md", f"{name}.json", text)
    llc_figure.neighbourhoods(values_of(stored_rows("llc")), ROOT / "docs/figures/neighborhood.png")
    rows = stored_rows("results")
    values = values_of(rows)
    units = {row["name"]: row["unit"] for row in rows}
    named = [case for case in measured_cases(values) if case not in ENDURANCE]
    draw(values, units, named, ROOT / "docs/ratios.png")
    fill(ROOT / "README.md", "results.json", table(values, named))
    far = sorted(case for case in measured_cases(values) if endures(case))
    fill(ROOT / "docs/results.md", "results.json at 30x and 50x", table(values, far))


if __name__ == "__main__":
    main()
