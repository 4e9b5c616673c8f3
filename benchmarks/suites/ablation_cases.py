"""What the ablations compare: groups of settings that differ from one baseline in one thing.

All choose on the first training images and are judged on the 5,000 development images; the test set stays unseen.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Net:
    """A net of the zoo, the ratio at which settings are compared on it, and the settings of its baseline."""

    title: str
    ratio: float
    options: dict[str, Any]


BASE: dict[str, Any] = {"temperature": 1.0, "damping": 0.01}  # the defaults before these tables; now 2 and 0.2
LONG: dict[str, Any] = {"iterations": 600, "temperature": 2.0, "damping": 0.2}  # the defaults, as long as results are
NETS = {
    "resnet20": Net("ResNet-20", 30.0, {"iterations": 100, **BASE}),
    "lenet5": Net("LeNet-5", 40.0, {"iterations": 150, **BASE}),
    "vit_tiny": Net("ViT-tiny", 15.0, {"iterations": 150, **BASE}),
}


@dataclass(frozen=True)
class Case:
    """One setting; ``labelled`` gives labels with the calibration images, ``prune`` prunes a share of the weights."""

    label: str
    options: dict[str, Any] = field(default_factory=dict)
    samples: int = 4000
    labelled: bool = False
    prune: float | None = None
    seeds: int = 3


@dataclass(frozen=True)
class Group:
    """Cases that answer one question, on some nets; the first line of a table is the baseline."""

    question: str
    cases: tuple[Case, ...]
    nets: tuple[str, ...] = ("resnet20",)
    baseline: bool = True  # whether the baseline is a line of its own, not one of the cases by another name


def _plugin(kind: str, name: str, **settings: Any) -> dict[str, Any]:
    """Options that choose one plug-in."""
    return {"plugins": {kind: {"name": name, **settings} if settings else name}}


BASELINE = Case("baseline")
WIDTHS = (0.125, 0.25, 0.5)
GROUPS = {
    "kernels": Group(
        "Kernel of the counter and its half width δ in code units; or the width as a share of the range of codes",
        (
            *(
                Case(f"{kernel}, δ = {delta:g}", _plugin("kernel", kernel, delta=delta), seeds=2)
                for kernel in ("cos", "linear", "triangle")
                for delta in WIDTHS
                if (kernel, delta) != ("cos", 0.25)
            ),
            Case("cos, range / 64", _plugin("kernel", "range", resolution=64), seeds=2),
        ),
    ),
    "counter": Group(
        "Entropy of all weights against the estimate of the L² code, which takes 1/128 of the weights of large tensors",
        (
            Case("official rate loss, sampled", _plugin("rate", "official")),
            Case("official rate loss, all weights", _plugin("rate", "official", sampled=False), seeds=2),
        ),
        ("resnet20", "lenet5"),
    ),
    "transforms": Group(
        "Curve from weights to codes, all started from nearest rounding but the baseline",
        (
            Case("dead zone, nearest", {"rounding": "nearest"}, seeds=2),
            *(
                Case(f"{name}, nearest", {**_plugin("transform", name), "rounding": "nearest"}, seeds=2)
                for name in ("uniform", "log", "exp", "multiscale")
            ),
        ),
    ),
    "separately": Group(
        "Prune (by magnitude, tuned for as many iterations), then round, then code, against all of it together",
        tuple(
            Case(
                f"prune {share:.0%}, then round and code",
                {"iterations": 0, "rounding": "nearest"},
                prune=share,
                seeds=1,
            )
            for share in (0.3, 0.5, 0.7)
        ),
        ("resnet20", "lenet5"),
    ),
    "entropy": Group(
        "The entropy term in the objective, against scaling all steps alike until the size is right",
        (
            Case("no entropy term", {"entropy_term": False}),
            Case("also on weights", _plugin("rate", "soft", on_weights=True), seeds=2),
        ),
        ("resnet20", "lenet5"),
    ),
    "entropy_length": Group(
        "The entropy term at production length, against scaling all steps alike",
        (Case("600 iterations", LONG), Case("600 iterations, no entropy term", {**LONG, "entropy_term": False})),
        ("resnet20", "vit_tiny", "lenet5"),
    ),
    "objective": Group(
        "What tuning lowers: distillation of outputs (KL in the baseline) and features, the loss on labels",
        (
            *(Case(f"KL at temperature {t:g}", {"temperature": t}, seeds=2) for t in (2.0, 4.0)),
            Case("logit MSE", {"distill": "mse"}, seeds=2),
            Case("features alone", {"distill_weight": 0.0, "features": ["auto"]}, seeds=2),
            Case("KL + 0.1 features", {"features": ["auto"], "feature_weight": 0.1}, seeds=2),
            Case("KL + features", {"features": ["auto"], "feature_weight": 1.0}, seeds=2),
            Case("KL + 0.1 labels", {"label_weight": 0.1}, labelled=True, seeds=2),
            Case(
                "labels alone (no distillation)", {"distill_weight": 0.0, "label_weight": 1.0}, labelled=True, seeds=2
            ),
        ),
        ("resnet20", "lenet5", "vit_tiny"),
    ),
    "samples": Group(
        "Calibration images",
        (
            *(Case(str(n), samples=n, seeds=2) for n in (100, 500, 2000)),
            Case("4000"),
            Case("10000", samples=10000, seeds=2),
        ),
        baseline=False,
    ),
    "iterations": Group(
        "Iterations of tuning",
        (
            *(Case(str(n), {"iterations": n}, seeds=2) for n in (25, 50)),
            Case("100"),
            *(Case(str(n), {"iterations": n}, seeds=1) for n in (200, 400)),
        ),
        baseline=False,
    ),
    "refinement": Group(
        "Second-order (OBS) rounding at the start, and tuning after it",
        (
            Case("start from nearest rounding", {"rounding": "nearest"}, seeds=2),
            *(Case(f"OBS rounding, damping {d:g}", {"damping": d}, seeds=2) for d in (0.05, 0.2, 1.0)),
            Case("damping 0.2 and temperature 2 (the defaults)", {"damping": 0.2, "temperature": 2.0}, seeds=2),
            Case("OBS rounding, no tuning", {"iterations": 0, "rounding": "compensated"}, seeds=2),
            Case("nearest rounding, no tuning", {"iterations": 0, "rounding": "nearest"}, seeds=2),
        ),
        ("resnet20", "lenet5", "vit_tiny"),
    ),
}


@dataclass(frozen=True)
class Trial:
    """One compression: a case on a net with a seed. Runs of the same settings are the same run, whatever the group."""

    net: str
    case: Case
    seed: int

    @property
    def options(self) -> dict[str, Any]:
        """All settings that are not defaults."""
        return {**NETS[self.net].options, **self.case.options, "seed": self.seed}

    @property
    def key(self) -> str:
        """A name of the settings, without those of BASE, that may be a file's."""
        case = self.case
        named = {k: v for k, v in self.options.items() if BASE.get(k) != v}
        parts = [self.net, *(f"{k}={v}" for k, v in sorted(named.items()))]
        parts += [f"samples={case.samples}"] + ["labelled"] * case.labelled
        parts += [] if case.prune is None else [f"prune={case.prune}"]
        return "".join(c if c.isalnum() or c in "=.-_" else "" for c in "_".join(parts))


def trials_of(group: str) -> dict[str, Trial]:
    """Every trial of a group by its key, baselines first."""
    trials = (
        Trial(net, case, seed)
        for net in GROUPS[group].nets
        for case in (BASELINE, *GROUPS[group].cases)
        for seed in range(case.seeds)
    )
    return {trial.key: trial for trial in trials}
