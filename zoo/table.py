"""Print the table of trained nets from ``weights/*.json``, or with ``--write`` put it into README.md."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from zoo.nets import NETS
from zoo.train import WEIGHTS

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- table: python -m zoo.table --write -->\n", "<!-- end of table -->\n"


def table() -> str:
    """A Markdown table with one row for every net whose training log is there."""
    rows = [
        "| task | parameters | file, bytes | test accuracy, % | test loss, nats | epochs | minutes |",
        "|" + "---|" * 7,
    ]
    for name, net in NETS.items():
        path = WEIGHTS / f"{name}.json"
        if not path.exists():
            continue
        record = json.loads(path.read_text())
        parameters = sum(p.numel() for p in net().parameters())
        size = path.with_suffix(".safetensors").stat().st_size
        last = record["log"][-1]
        rows.append(
            f"| `{name}` | {parameters:,} | {size:,} | {record['test_accuracy']:.2f} | {record['test_loss']:.4f} "
            f"| {last['epoch']} | {last['seconds'] / 60:.0f} |"
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
