"""Print the table of trained nets from ``weights/*.json``, or with ``--write`` put it into README.md."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from torch import nn

from zoo import detection, graph, language, vowels, words
from zoo.fitting import WEIGHTS
from zoo.nets import NETS

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- table: python -m zoo.table --write -->\n", "<!-- end of table -->\n"


def nets() -> dict[str, tuple[str, nn.Module]]:
    """The file of the task and the net, for each that was trained here as a whole."""
    found: dict[str, tuple[str, nn.Module]] = {name: ("fashion_mnist", net()) for name, net in NETS.items()}
    return found | {
        "detector": ("detection", detection.Detector()),
        "char_gpt": ("language", language.CharGPT()),
        "gcn": ("graph", graph.net()),
        "vowels": ("vowels", vowels.Restorer()),
        "words": ("words", words.net()),
    }


def metric(record: dict[str, float]) -> str:
    """The metric of a training log, with its unit."""
    if "test_map" in record:
        return f"mAP@0.5 {record['test_map']:.2f} %"
    return f"{record['test_accuracy']:.2f} %" if "test_accuracy" in record else "(its loss)"


def table() -> str:
    """A Markdown table with one row for every net whose training log is there."""
    rows = [
        "| task | parameters | file, bytes | test accuracy | test loss | epochs | minutes |",
        "|" + "---|" * 7,
    ]
    for name, (file, net) in nets().items():
        path = WEIGHTS / f"{name}.json"
        if not path.exists():
            continue
        record = json.loads(path.read_text())
        parameters = sum(p.numel() for p in net.parameters())
        size = path.with_suffix(".safetensors").stat().st_size
        last = record["log"][-1]
        unit = {"char_gpt": "bits/character", "vowels": "bits/character", "detector": "per item"}.get(name, "nats")
        rows.append(
            f"| `{file}.py:{name}` | {parameters:,} | {size:,} | {metric(record)} | {record['test_loss']:.4f} {unit} "
            f"| {last['epoch']} | {last['seconds'] / 60:.1f} |"
        )
    return "\n".join(rows) + "\n"


def with_table(text: str) -> str:
    """The README's text with the table between its two marks replaced."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        README.write_text(with_table(README.read_text()))
    else:
        print(table(), end="")
