"""How far Taylor expansions of the loss reach: points, curves, their table and figure; what hooks see of a model."""

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.utils import _pytree as pytree

from noworse.model.hooks import Functions, floating
from noworse.model.tensors import twin
from noworse.survey.capture import Call, capture
from noworse.task.data import Batch
from noworse.task.task import Loss


@dataclass(frozen=True)
class Coverage:
    """What one run of the loss on a batch calls; innermost modules go by all of their names."""

    calls: dict[str, int]  # of every innermost module; 0 for those never called
    integers: list[str]  # modules that are fed no floating-point tensor, as embeddings
    shared: list[list[str]]  # names of one and the same module
    loose: list[str]  # parameters of no innermost module, which other code reads
    functions: dict[str, int]  # torch functions called outside of innermost modules, and how often


def coverage(model: nn.Module, loss: Loss, batch: Batch) -> Coverage:
    """Return what ``loss(model, batch)`` calls, in eval mode on a copy of the model; what the loss does counts too."""
    model = twin(model).eval().requires_grad_(False)
    names: dict[nn.Module, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if not any(True for _ in module.children()):
            names.setdefault(module, []).append(name)
    integers: set[str] = set()
    functions: Counter[str] = Counter()
    running: list[str] = []  # innermost modules

    def count(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        result = function(*args, **kwargs)
        name = getattr(function, "__name__", str(function)).strip("_")
        if not running and name != "get" and any(map(floating, pytree.tree_leaves(result))):
            functions[name] += 1
        return result

    def enter(call: Call) -> None:
        running.append(call.name)
        if not any(map(floating, pytree.tree_leaves((call.args, call.kwargs)))):
            integers.update(names[call.layer])

    def leave(call: Call) -> None:
        running.pop()

    innermost = {each[0]: module for module, each in names.items()}
    with capture(innermost, leave, enter=enter) as seen, torch.no_grad(), Functions(count):
        loss(model, batch)
    calls = {name: seen.calls[each[0]] for each in names.values() for name in each}
    owned = {id(p) for module in names for p in module.parameters()}
    loose = [name for name, p in model.named_parameters() if id(p) not in owned]
    shared = [each for each in names.values() if len(each) > 1]
    return Coverage(calls, sorted(integers), shared, loose, dict(functions))


NOISE, ALL = "noise", "all"  # an error, and a place
WEIGHTS, ACTIVATIONS = "weights", "activations"
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
class NoiseCurve:
    """Log-log slopes of the gaps of one place's noise, and the largest noise that is still predicted.

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
    """All points and curves of one model, and what they were measured on; ``noworse.neighborhood`` returns it."""

    points: tuple[Point, ...]
    curves: tuple[NoiseCurve, ...]
    loss: float  # mean, of the unmoved model
    samples: int
    dtype: str
    curvature: str
    coverage: Coverage
    skipped: dict[str, str]  # places left out, and why

    def to_json(self) -> str:
        """Return everything as JSON; numbers that are not finite become null."""
        plain = json.loads(json.dumps(asdict(self)), parse_constant=lambda name: None)
        return json.dumps(plain, indent=1, allow_nan=False)

    def _of_all(self, where: str) -> tuple[list[Point], list[Point]]:
        """The points of noise and of other errors at all weights, or at all inputs."""
        here = [p for p in self.points if p.where == where and p.place == ALL]
        return [p for p in here if p.error == NOISE], [p for p in here if p.error != NOISE]

    def table(self) -> str:
        """Return |mean gap| of both orders for noise of all places together (LLC, Table 1), then all curves."""
        lines = [f"{'noise':<14}{'size':>9}{'relative':>10}{'actual':>12}{'gap, order 1':>14}{'order 2':>12}"]
        for p in (*self._of_all(WEIGHTS)[0], *self._of_all(ACTIVATIONS)[0]):
            gaps = f"{p.mean_gap_first:>14.2e}{p.mean_gap_second:>12.2e}"
            lines.append(f"{p.where:<14}{p.size:>9.1e}{p.relative:>10.1e}{p.actual:>+12.2e}{gaps}")
        width = max(len(c.place) for c in self.curves) + 2
        heads = f"{'slope 1':>8}{'slope 2':>8}{'bound 1 (relative)':>21}{'bound 2':>21}"
        lines += ["", f"{'place':<{width}}{'where':<13}{heads}"]
        for c in self.curves:
            bounds = f"{_bound(c.bound_first, c.bound_first_relative)}{_bound(c.bound_second, c.bound_second_relative)}"
            lines.append(f"{c.place:<{width}}{c.where:<13}{c.slope_first:>8.2f}{c.slope_second:>8.2f}{bounds}")
        return "\n".join(lines)

    def figure(self, path: str | Path) -> None:
        """Draw gaps over sizes into an image at ``path``, real errors as crosses (LLC, Figure 1); needs matplotlib."""
        try:
            from matplotlib.figure import Figure
        except ModuleNotFoundError as error:
            raise ImportError("a figure needs matplotlib: pip install noworse[report]") from error
        drawing = Figure(figsize=(10, 4), layout="constrained")
        for axes, where in zip(drawing.subplots(1, 2), (WEIGHTS, ACTIVATIONS), strict=True):
            noise, real = self._of_all(where)
            sizes = [p.relative for p in noise]
            axes.plot(sizes, [abs(p.actual) for p in noise], "k-", label="loss change")
            axes.plot(sizes, [p.mean_gap_first for p in noise], "o-", label="gap, first order")
            axes.plot(sizes, [p.mean_gap_second for p in noise], "s-", label="gap, second order")
            for p in real:
                place = p.relative, max(p.mean_gap_first, 1e-300)
                axes.plot(*place, "x", color="tab:red")
                axes.annotate(p.error, place, fontsize=7)
            axes.set(xscale="log", yscale="log", title=f"all {where}", xlabel="error / tensor (RMS)", ylabel="loss")
            axes.legend()
        drawing.savefig(str(path))


def noise_curve(noise: Sequence[Point], share: float, floor: float) -> NoiseCurve:
    """Return slopes and bounds of the points of one place's noise; gaps below ``floor`` are left out of slopes."""
    values: dict[str, Any] = {"place": noise[0].place, "where": noise[0].where}
    ordered = sorted(noise, key=lambda p: p.size)
    for order in ("first", "second"):
        gaps = [getattr(p, f"gap_{order}") for p in ordered]
        pairs = [(p.size, gap) for p, gap in zip(ordered, gaps, strict=True) if gap > floor]
        values[f"slope_{order}"] = slope([(x, gap) for x, gap in pairs if x <= ASYMPTOTIC * (1 + 1e-9)])
        holds = [gap <= share * getattr(p, f"scale_{order}") for p, gap in zip(ordered, gaps, strict=True)]
        near = ordered[: [*holds, False].index(False)]
        values[f"bound_{order}"] = near[-1].size if near else None
        values[f"bound_{order}_relative"] = near[-1].relative if near else None
    return NoiseCurve(**values)


def slope(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the line through logarithms of (x, y); NaN for fewer than two."""
    if len(pairs) < 2:
        return math.nan
    x, y = np.log(np.array(pairs)).T
    return float(np.polyfit(x, y, 1)[0])


def _bound(size: float | None, relative: float | None) -> str:
    return f"{'none':>21}" if size is None else f"{size:>10.1e} ({relative:.1e})"
