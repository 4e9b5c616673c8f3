"""The cases of ``benchmarks.l2`` and ``benchmarks.fast``: which model, how far, how trained, and what must be reached.

Settings were chosen on development splits. ``ENDURANCE`` asks every model for 30x and 50x: measured, without a target.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Case:
    """One compression: the task, the target ratio, the settings, and what must be reached."""

    task: str
    ratio: float
    options: dict[str, Any]
    bound: float | None = 0.01  # in the loss's unit, upper bound of the mean difference
    drop: float | None = None  # percentage points (or correlation, bits per character) that the metric may worsen
    seconds: float | None = None
    memory: float | None = None  # GiB
    unit: str = "nats"  # of the loss
    rising: bool = False  # whether the metric is better the smaller it is
    preset: str = "default"  # what ``options`` change


ZOO = "zoo/"
FASHION = ZOO + "fashion_mnist.py:"
MINILM, SPAM = ZOO + "minilm.py:minilm", ZOO + "spam.py:spam"
GPT, DETECTOR, GCN = ZOO + "language.py:char_gpt", ZOO + "detection.py:detector", ZOO + "graph.py:gcn"
LITE = ZOO + "efficientnet.py:efficientnet_lite0"
HOT = {"rounding": "compensated", "temperature": 4.0}
NEAREST = {"rounding": "nearest"}  # where development images say that many iterations end lower from there
FASTER = {"lr_weights": 0.004}  # and where they say that compensated rounding ends lower by this
BITS: dict[str, Any] = {"unit": "bits per character", "rising": True}

FIRST = {  # what the first version had to reach
    "lenet300": Case(FASHION + "lenet300", 40.5, {"iterations": 2000, "batch": 64, **HOT}),
    "lenet5": Case(FASHION + "lenet5", 40.5, {"iterations": 2000, "batch": 64, **NEAREST}),
    "resnet20": Case(FASHION + "resnet20", 24.3, {"iterations": 600}, drop=0.3, seconds=300),
    "resnet20 seed 1": Case(FASHION + "resnet20", 24.3, {"iterations": 600, "seed": 1}, drop=0.3, seconds=300),
    "resnet20 seed 2": Case(FASHION + "resnet20", 24.3, {"iterations": 600, "seed": 2}, drop=0.3, seconds=300),
    "resnet20 at 30": Case(FASHION + "resnet20", 30.3, {"iterations": 1000, "methods": "auto"}, drop=1.0),
    "vgg_small": Case(FASHION + "vgg_small", 25.3, {"iterations": 300}),
    "vit_tiny": Case(FASHION + "vit_tiny", 12.2, {"iterations": 300}),
    "mobilenetv2": Case(FASHION + "mobilenetv2", 10.2, {"iterations": 200}),
    "minilm": Case(MINILM, 8.1, {"iterations": 60, "batch": 16}, None, 0.01, 1800, 6),
}
NO_WORSE = {
    "lenet5 at 55": Case(FASHION + "lenet5", 55.3, {"iterations": 1500, "batch": 64, "methods": "auto", **FASTER}),
    "vgg_small at 40": Case(FASHION + "vgg_small", 40.3, {"iterations": 1100, "methods": "auto"}),
    "vit_tiny at 16": Case(FASHION + "vit_tiny", 16.2, {"iterations": 800}),
    "vit_tiny at 18": Case(FASHION + "vit_tiny", 18.6, {"iterations": 1200}),  # half of what NNCodec takes
    "mobilenetv2 at 14": Case(FASHION + "mobilenetv2", 14.2, {"iterations": 500}),
    "minilm at 12": Case(MINILM, 12.1, {"iterations": 100, "batch": 16}, None, 0.005),
    "char_gpt at 10": Case(GPT, 10.2, {"iterations": 400, "batch": 16}, **BITS),
    "detector at 20": Case(DETECTOR, 20.3, {"iterations": 600}, None, 0.5),
    "gcn at 20": Case(GCN, 20.3, {"iterations": 300, "batch": 797}),
}
MINOR_LOSS = {
    "resnet20 at 42": Case(FASHION + "resnet20", 42.3, {"iterations": 1500, "methods": "auto"}, None, 1.0),
    "vgg_small at 60": Case(FASHION + "vgg_small", 60.3, {"iterations": 800, "methods": "auto"}, None, 1.0),
}
MEASURED = {  # no targets
    "hybrid at 16": Case(FASHION + "hybrid", 16.2, {"iterations": 500}, None),
    "spam at 20": Case(SPAM, 20.3, {"iterations": 60, "batch": 16}, None),
    "efficientnet_lite0 at 8": Case(LITE, 8.1, {"iterations": 60, "batch": 8}, None),
}
EFFORT: dict[str, dict[str, Any]] = {  # of the cases at 30x and 50x: a few minutes each at most
    FASHION + "lenet300": {"iterations": 1000, "batch": 64},
    FASHION + "lenet5": {"iterations": 1000, "batch": 64},
    FASHION + "resnet20": {"iterations": 500},
    FASHION + "vgg_small": {"iterations": 300},
    FASHION + "vit_tiny": {"iterations": 500},
    FASHION + "mobilenetv2": {"iterations": 200},
    FASHION + "hybrid": {"iterations": 300},
    MINILM: {"iterations": 100, "batch": 16},
    SPAM: {"iterations": 30, "batch": 16},
    GPT: {"iterations": 200, "batch": 16},
    DETECTOR: {"iterations": 300},
    GCN: {"iterations": 200, "batch": 797},
    LITE: {"iterations": 30, "batch": 8},
}


def _endurance() -> dict[str, Case]:
    found = {}
    for task, options in EFFORT.items():
        for ratio in (30, 50):
            name = f"{task.rpartition(':')[2]} at {ratio}"
            if name not in FIRST:
                found[name] = Case(task, ratio + 0.3, options, None, **(BITS if task == GPT else {}))
    return found


ENDURANCE = _endurance()
CASES = {**FIRST, **NO_WORSE, **MINOR_LOSS, **MEASURED, **ENDURANCE}

FAST = {  # rounding alone, for benchmarks.fast
    "resnet20": Case(FASHION + "resnet20", 21.3, {}, seconds=30, preset="fast"),
    "lenet5": Case(FASHION + "lenet5", 31.3, {}, seconds=30, preset="fast"),
    "vit_tiny": Case(FASHION + "vit_tiny", 13.6, {}, seconds=30, preset="fast"),
    "minilm": Case(MINILM, 8.1, {}, None, 0.01, 600, 6, preset="fast"),
    "vgg_small at 25": Case(FASHION + "vgg_small", 25.3, {}, None, preset="fast"),  # no targets from here on
    "resnet20 at 25": Case(FASHION + "resnet20", 25.3, {}, None, preset="fast"),
    "lenet5 at 38": Case(FASHION + "lenet5", 38.3, {}, None, preset="fast"),
    "mobilenetv2 at 10": Case(FASHION + "mobilenetv2", 10.2, {}, None, preset="fast"),
}
