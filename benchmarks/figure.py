"""The README's picture, from stored results: ``python -m benchmarks.figure RESULTS.json [--out docs/ratios.png]``.

RESULTS.json is what ``python -m benchmarks.l2 --json`` wrote.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt

matplotlib.use("Agg")
NAMES = {
    "lenet300": "LeNet-300-100",
    "lenet5": "LeNet-5",
    "vgg_small": "VGG-small",
    "resnet20 at 30": "ResNet-20 at 30x",
    "resnet20": "ResNet-20",
    "vit_tiny": "ViT-tiny",
    "mobilenetv2": "MobileNetV2 x0.5",
    "minilm": "MiniLM-L6 (22.7M)",
}


def draw(rows: list[dict[str, object]], out: Path) -> None:
    """Bars of the compression ratio, with the file size and the upper bound of the loss difference beside each."""
    values = {str(row["name"]): row["value"] for row in rows}
    names = [name for name in NAMES if f"{name}: ratio" in values]
    figure, axes = plt.subplots(figsize=(8, 0.45 * len(names) + 1.1), layout="constrained")
    ratios = [float(str(values[f"{name}: ratio"])) for name in names]
    axes.barh(range(len(names)), ratios, color="#2f6f9f", height=0.62)
    for place, (name, ratio) in enumerate(zip(names, ratios, strict=True)):
        size = float(str(values[f"{name}: file"])) / 1000
        bound = float(str(values[f"{name}: its upper bound"]))
        axes.text(ratio + 0.5, place, f"{size:,.1f} kB, loss {bound:+.4f} nats at most", va="center", fontsize=9)
    axes.set_yticks(range(len(names)), [NAMES[name] for name in names])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.75 * max(ratios))
    axes.set_xlabel("times smaller than the fp32 tensors, by size of the whole file")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(out, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/ratios.png"))
    options = parser.parse_args()
    draw(json.loads(options.results.read_text()), options.out)


if __name__ == "__main__":
    main()
