"""Tables of which a line shows several rows: those whose names begin alike, a column for each ending."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

from benchmarks.harness.row import Row, Rows
from benchmarks.harness.table import markdown

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
STYLES = {"bytes": "{:,.0f} B", "%": "{:.2f} %", "GiB": "{:.3g} GiB"}


def titled(begin: str) -> str:
    """What a beginning of names is called: the net by its title, then the rest."""
    net = re.match(r"(?:\w+\.py:)?(\w+)", begin)
    named = TITLES.get(net[1], net[0]) + begin[net.end() :] if net else begin
    return re.sub(r" (seed \d+|frozen)$", r", \1", re.sub(r" at (\d+)$", r" at \1x", named))


def place(begin: str) -> int:
    """Where a net stands among all."""
    net = re.split("[ ,]", begin.rpartition(":")[2])[0]
    return [*TITLES, net].index(net)


def number(row: Row) -> str:
    """A value with the digits that its unit asks for."""
    if row.unit in ("nats", "bits per character"):
        return f"{row.value:+.{4 if abs(row.value) >= 0.01 else 5}f}"
    if row.unit in STYLES:
        return STYLES[row.unit].format(row.value)
    unit = " s" if row.unit == "s" else ""
    if row.value == int(row.value) or row.value >= (10 if unit else 1000):
        return f"{row.value:,.0f}{unit}"
    return (f"{row.value:#.4g}" if abs(row.value) > 1 else f"{row.value:.4g}") + unit


def table(
    first: str,
    columns: Mapping[str, str | tuple[str, str]],
    keep: Callable[[str], bool] = lambda begin: True,
    more: Sequence[Sequence[str]] = (),
    title: Callable[[str], str] = titled,
) -> Callable[[Rows], str]:
    """How a table is made of rows: ``columns`` maps titles to the ends of rows' names, two for "one (other)".

    A line for every beginning that the first column has rows of and that ``keep`` is true of, then ``more`` lines.
    """
    ends = [(end,) if isinstance(end, str) else end for end in columns.values()]

    def made(rows: Rows) -> str:
        cells = {row.name: number(row) for row in rows}
        begins = [name.removesuffix(ends[0][0]) for name in cells if name.endswith(ends[0][0])]
        lines = []
        for begin in sorted(filter(keep, begins), key=place):
            line = [[cells[begin + part] for part in end if begin + part in cells] for end in ends]
            lines.append(
                [title(begin), *(" ".join([*cell[:1], *(f"({other})" for other in cell[1:])]) for cell in line)]
            )
        return markdown([first, *columns], [*lines, *more] if lines else [])

    return made
