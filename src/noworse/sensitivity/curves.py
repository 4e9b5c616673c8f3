"""How far Taylor expansions of the loss reach: points, curves through them, and their table and figure."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from noworse.sensitivity.coverage import Coverage

ASYMPTOTIC = 1e-2  # slopes are those of noise up to this size
FLOOR = 1e3  # times the rounding error of the mean loss: smaller gaps say nothing of derivatives


@dataclass(frozen=True)
class Point:
    """One error of one place, or of all places together; losses are means over samples, in the loss's unit."""

    place: str  # name of the parameter or layer, or "all"
    where: str  # "weights" or "activations"
    error: str  # "noise", "4 bits", "4 bits directed", "half rank"
    size: float  # root mean square of the error; of noise its largest magnitude, as in LLC's Table 1
    relative: float  # root mean square of the error, divided by the tensor's
    actual: float  # change of the loss
    first: float  # its prediction of first order
    second: float  # and with the second-order term
    standard_error: float  # of ``actual``
    gap_first: float  # mean over samples of |actual − first|
    gap_second: float
    scale_first: float  # mean over samples of |first|
    scale_second: float

    @property
    def mean_gap_first(self) -> float:
        """|mean(actual − first)|, LLC's U (Eq. 5 and 6)."""
        return abs(self.actual - self.first)

    @property
    def mean_gap_second(self) -> float:
        """The same with the second-order term."""
        return abs(self.actual - self.second)


@dataclass(frozen=True)
class Curve:
    """What the noise of one place tells: log-log slopes of gaps, and the largest noise that is still predicted.

    A bound is the largest size up to which the mean |gap| over samples stays below a share of the mean |prediction|;
    None where even the smallest noise is not predicted.
    """

    place: str
    where: str
    slope_first: float
    slope_second: float
    bound_first: float | None
    bound_first_relative: float | None
    bound_second: float | None
    bound_second_relative: float | None


@dataclass(frozen=True)
class Neighborhood:
    """What ``noworse.neighborhood`` returns."""

    points: tuple[Point, ...]
    curves: tuple[Curve, ...]
    loss: float  # mean, of the unmoved model
    samples: int
    dtype: str
    curvature: str
    coverage: Coverage
    skipped: dict[str, str]  # places left out, and why

    def to_json(self) -> str:
        """Everything as JSON; numbers that are not finite become null."""
        return json.dumps(_finite(asdict(self)), indent=1, allow_nan=False)

    def table(self) -> str:
        """|mean gap| of first and second order for noise of all places together (LLC, Table 1), then all curves."""
        lines = [f"{'noise':<14}{'size':>9}{'relative':>10}{'actual':>12}{'gap, order 1':>14}{'order 2':>12}"]
        for p in self.points:
            if p.place == "all" and p.error == "noise":
                gaps = f"{p.mean_gap_first:>14.2e}{p.mean_gap_second:>12.2e}"
                lines.append(f"{p.where:<14}{p.size:>9.1e}{p.relative:>10.1e}{p.actual:>+12.2e}{gaps}")
        lines.append("")
        width = max(len(c.place) for c in self.curves) + 2
        lines.append(
            f"{'place':<{width}}{'where':<13}{'slope 1':>8}{'slope 2':>8}{'bound 1 (relative)':>21}{'bound 2':>21}"
        )
        for c in self.curves:
            bounds = f"{_bound(c.bound_first, c.bound_first_relative)}{_bound(c.bound_second, c.bound_second_relative)}"
            lines.append(f"{c.place:<{width}}{c.where:<13}{c.slope_first:>8.2f}{c.slope_second:>8.2f}{bounds}")
        return "\n".join(lines)

    def figure(self, path: str | Path) -> None:
        """An image at ``path`` of gaps over sizes, real errors being crosses (LLC, Figure 1); needs matplotlib."""
        try:
            from matplotlib.figure import Figure
        except ModuleNotFoundError as error:
            raise ImportError("a figure needs matplotlib: pip install noworse[report]") from error
        drawing = Figure(figsize=(10, 4), layout="constrained")
        for axes, where in zip(drawing.subplots(1, 2), ("weights", "activations"), strict=True):
            noise = [p for p in self.points if p.where == where and p.place == "all" and p.error == "noise"]
            sizes = [p.relative for p in noise]
            axes.plot(sizes, [abs(p.actual) for p in noise], "k-", label="loss change")
            axes.plot(sizes, [p.mean_gap_first for p in noise], "o-", label="gap, first order")
            axes.plot(sizes, [p.mean_gap_second for p in noise], "s-", label="gap, second order")
            real = [p for p in self.points if p.where == where and p.place == "all" and p.error != "noise"]
            for p in real:
                axes.plot(p.relative, max(p.mean_gap_first, 1e-300), "x", color="tab:red")
                axes.annotate(p.error, (p.relative, max(p.mean_gap_first, 1e-300)), fontsize=7)
            axes.set(xscale="log", yscale="log", title=f"all {where}", xlabel="error / tensor (RMS)", ylabel="loss")
            axes.legend()
        drawing.savefig(str(path))


def curve(noise: Sequence[Point], share: float, floor: float) -> Curve:
    """Slopes and bounds of the points of one place's noise; gaps below ``floor`` are left out of slopes."""
    found: dict[str, Any] = {"place": noise[0].place, "where": noise[0].where}
    ordered = sorted(noise, key=lambda p: p.size)
    for order in ("first", "second"):
        gaps = [(p.size, getattr(p, f"gap_{order}")) for p in ordered if p.size <= ASYMPTOTIC * (1 + 1e-9)]
        found[f"slope_{order}"] = slope([(size, gap) for size, gap in gaps if gap > floor])
        reach = None
        for p in ordered:
            if not getattr(p, f"gap_{order}") <= share * getattr(p, f"scale_{order}"):
                break
            reach = p
        found[f"bound_{order}"] = reach.size if reach else None
        found[f"bound_{order}_relative"] = reach.relative if reach else None
    return Curve(**found)


def slope(pairs: Sequence[tuple[float, float]]) -> float:
    """Slope of the line through logarithms of (x, y); NaN for fewer than two."""
    if len(pairs) < 2:
        return math.nan
    x, y = np.log(np.array(pairs)).T
    return float(np.polyfit(x, y, 1)[0])


def _bound(size: float | None, relative: float | None) -> str:
    return f"{'none':>21}" if size is None else f"{size:>10.1e} ({relative:.1e})"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
