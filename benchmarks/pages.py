"""Pages of docs/ that hold what benchmarks stored: their marks, and rows as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Values = dict[str, float]  # of rows, by name
ROOT = Path(__file__).parent.parent
END = "<!-- end of results -->"
TITLES = {
    "tanh_mlp": "tanh MLP",
    "lenet300": "LeNet-300-100",
    "lenet5": "LeNet-5",
    "vgg_small": "VGG-small",
    "resnet20": "ResNet-20",
    "vit_tiny": "ViT-tiny",
    "mobilenetv2": "MobileNetV2 x0.5",
    "hybrid": "CNN/ViT hybrid",
    "minilm": "MiniLM-L6 (22.7M)",
    "spam": "MiniLM-L6, spam mails",
    "char_gpt": "char-GPT",
    "detector": "detector",
    "gcn": "GCN",
    "efficientnet_lite0": "EfficientNet-Lite0",
}


def start(source: str) -> str:
    """Where what comes of a source begins."""
    return f"<!-- {source}, written by python -m benchmarks.publish -->"


def fill(path: Path, source: str, text: str) -> None:
    """Put the text between the two marks that ``source`` has in a document."""
    before, rest = path.read_text().split(start(source))
    path.write_text(f"{before}{start(source)}\n{text}\n{END}{rest.split(END, 1)[1]}")


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table, or nothing where it has no lines."""
    body = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *body]) if body else ""


def all_rows(rows: list[dict[str, Any]]) -> str:
    """Every row of a benchmark."""
    lines = ["| row | value | unit | target | met |", "|---|---|---|---|---|"]
    for row in rows:
        met = {True: "yes", False: "**no**", None: ""}[row["ok"]]
        lines.append(f"| {row['name']} | {row['value']:.6g} | {row['unit']} | {row['target']} | {met} |")
    return "\n".join(lines)
