"""The README's picture and table, and docs/results.md, from stored results: ``python -m benchmarks.publish``.

Reads ``docs/results.json``, which ``python -m benchmarks.l2 --json docs/results.json`` wrote, and changes nothing else.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt

matplotlib.use("Agg")
ROOT = Path(__file__).parent.parent
START, END = "<!-- results: written by python -m benchmarks.publish -->", "<!-- end of results -->"
NAMES = {
    "lenet300": "LeNet-300-100",
    "lenet5": "LeNet-5",
    "vgg_small": "VGG-small",
    "vgg_small at 40": "VGG-small at 40x",
    "resnet20": "ResNet-20",
    "resnet20 seed 1": "ResNet-20, seed 1",
    "resnet20 seed 2": "ResNet-20, seed 2",
    "resnet20 at 30": "ResNet-20 at 30x",
    "resnet20 at 40": "ResNet-20 at 40x",
    "vit_tiny": "ViT-tiny",
    "vit_tiny at 18": "ViT-tiny at 18x",
    "mobilenetv2": "MobileNetV2 x0.5",
    "mobilenetv2 at 18": "MobileNetV2 x0.5 at 18x",
    "minilm": "MiniLM-L6 (22.7M)",
}


def draw(values: Mapping[str, float], out: Path) -> None:
    """Bars of the compression ratio, with the file size and the upper bound of the loss difference beside each."""
    names = [name for name in NAMES if f"{name}: ratio" in values]
    figure, axes = plt.subplots(figsize=(8, 0.42 * len(names) + 1.0), layout="constrained")
    ratios = [values[f"{name}: ratio"] for name in names]
    axes.barh(range(len(names)), ratios, color="#2f6f9f", height=0.62)
    for place, (name, ratio) in enumerate(zip(names, ratios, strict=True)):
        size, bound = values[f"{name}: file"] / 1000, values[f"{name}: its upper bound"]
        axes.text(ratio + 0.5, place, f"{size:,.1f} kB, loss at most {bound:+.4f} nats", va="center", fontsize=9)
    axes.set_yticks(range(len(names)), [NAMES[name] for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.7 * max(ratios))
    axes.set_xlabel("times smaller than the fp32 tensors, by size of the whole file")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=110)


def table(values: Mapping[str, float]) -> str:
    """One line of Markdown per model."""
    lines = ["| model | file | ratio | loss difference | bound | metric, original | in the file | changed | time |"]
    lines.append("|---|---|---|---|---|---|---|---|---|")
    for name, title in NAMES.items():
        if f"{name}: ratio" not in values:
            continue
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
            f"| {title} | {size:,.0f} B | {ratio:.1f} | {difference:+.4f} | {bound:+.4f} | {before:.{digits}f} "
            f"| {after:.{digits}f} | {changed} | {seconds:.0f} s |"
        )
    return "\n".join(lines)


def all_rows(rows: list[dict[str, Any]]) -> str:
    """Every row of the benchmark as Markdown."""
    lines = ["| row | value | unit | target | met |", "|---|---|---|---|---|"]
    for row in rows:
        met = {True: "yes", False: "**no**", None: ""}[row["ok"]]
        lines.append(f"| {row['name']} | {row['value']:.6g} | {row['unit']} | {row['target']} | {met} |")
    return "\n".join(lines)


def main() -> None:
    rows = json.loads((ROOT / "docs/results.json").read_text())
    values = {row["name"]: float(row["value"]) for row in rows}
    draw(values, ROOT / "docs/ratios.png")
    for path, text in ((ROOT / "README.md", table(values)), (ROOT / "docs/results.md", all_rows(rows))):
        before, rest = path.read_text().split(START)
        path.write_text(f"{before}{START}\n{text}\n{END}{rest.split(END)[1]}")


if __name__ == "__main__":
    main()
