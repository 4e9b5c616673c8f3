"""Low-rank decomposition of a trained model into an ordinary module of fewer parameters, without training.

``calib`` chooses the ranks: curvature scores all of them, then outputs on a part of it that curvature does not see tell
how far to go. ``verify`` judges what comes out. Source: LLC (2024), part 3; see docs/lowrank.md.
"""

from __future__ import annotations

import copy
import functools
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from noworse.allocate.predict import Predictor
from noworse.errors import BadInput
from noworse.judge.original import Original
from noworse.judge.verdict import Verdict, parse_tolerance
from noworse.judge.verify import verify_module
from noworse.model.attention import Attention, openable
from noworse.model.factorised import copied, replace
from noworse.model.tensors import float32_copy
from noworse.propose.ranks import choose
from noworse.propose.ranks.build import Run, build
from noworse.propose.ranks.candidates import Analysis, Candidate
from noworse.propose.ranks.sites import Filter, Sites, find_sites, open_attention
from noworse.propose.ranks.strategy import Ranks
from noworse.propose.strategies import DEFAULT, RANKS, strategy
from noworse.survey.flops import count_flops
from noworse.survey.kronecker import Curvature, measure
from noworse.task import data
from noworse.task.data import Batch
from noworse.task.distances import Distiller, distiller_of
from noworse.task.task import Task

CURVATURE_SAMPLES, REFRESH_SAMPLES, AT_A_TIME = 2048, 256, 64
HELD_BACK = 0.2  # of calib: where the search measures
BISECTIONS, LOOKS = 10, 3
MEMORISED = 0.5  # of the tolerance is used on calib: nets lose less on images that they were trained on
BACK_OFF = 0.5
CONFIDENCE = 0.95
Chosen = Mapping[str, Candidate]  # by name of the layer


@dataclass(frozen=True)
class Decomposition:
    """What ``decompose`` returns: the module, the verdict on it, and what was done."""

    module: nn.Module
    verdict: Verdict
    chosen: Chosen
    alone: dict[str, str]  # layers that cannot be decomposed, and why
    parameters: tuple[int, int]  # of the whole model, before and after
    decomposable: tuple[int, int]  # of the weights that were looked at, before and after
    flops: tuple[int, int]  # per sample of all linear and convolutional layers
    samples: int  # of calib
    seconds: float
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def drop(self) -> float:
        """Share of the model's parameters that is gone."""
        return 1 - self.parameters[1] / self.parameters[0]

    @property
    def layer_drop(self) -> float:
        """Share of the parameters of the weights that were looked at that is gone."""
        return 1 - self.decomposable[1] / self.decomposable[0]

    def __str__(self) -> str:
        ranks = ", ".join(f"{n}: {'x'.join(map(str, c.ranks))} ({c.way})" for n, c in self.chosen.items()) or "none"
        lines = [
            f"{self.parameters[1]:,} of {self.parameters[0]:,} parameters ({100 * self.drop:.1f} % dropped), "
            f"{self.flops[1]:,} of {self.flops[0]:,} operations per sample ({self.seconds:.0f} s)",
            f"ranks: {ranks}",
        ]
        lines += [f"left alone: {name}, {reason}" for name, reason in self.alone.items()]
        return "\n".join([*lines, str(self.verdict)])


def decompose(
    model: nn.Module,
    *,
    loss: Callable[[nn.Module, Batch], Tensor],
    calib: Iterable[Batch],
    verify: Iterable[Batch],
    tolerance: float | str = "1%",
    drop: float | None = None,
    only: Filter | None = None,
    preset: str = DEFAULT,
    **extras: Any,
) -> Decomposition:
    """A copy of ``model`` whose layers are replaced by low-rank factors, as few parameters as ``tolerance`` allows.

    Arguments are those of ``noworse.compress``. With ``drop`` that share (0 to 1) of the parameters of decomposable
    weights is removed at the least predicted loss instead. ``only(name, layer)`` tells which layers may be touched.
    ``preset`` is "default", "paper" (LLC as published: linear layers, first order; calib needs its labels), or another
    weighting of errors: "svd", "fwsvd", "asvd", "svd-llm". The verdict says whether the module is no worse; it is
    returned either way. Raises BadInput for what cannot be used.
    """
    task = Task(model=model, loss=loss, calib=calib, verify=verify, **extras)
    return decompose_task(task, tolerance=tolerance, drop=drop, only=only, preset=preset)


def decompose_task(
    task: Task,
    *,
    tolerance: float | str = "1%",
    drop: float | None = None,
    only: Filter | None = None,
    preset: str = DEFAULT,
    seed: int = 0,
) -> Decomposition:
    """``decompose`` for a Task."""
    begin = time.monotonic()
    method: Ranks = strategy(RANKS, preset, "decompose")
    if drop is not None and not (isinstance(drop, (int, float)) and 0 < drop < 1):
        raise BadInput(f"drop is {drop!r}: expected a share of the parameters between 0 and 1")
    if drop is not None and method.search is not None:
        expected = "which stops where the loss says: expected one of them"
        raise BadInput(f"drop was given with the preset {preset!r}, {expected}")
    calib, held_out = data.disjoint(task.calib, task.verify)
    original = Original(task, held_out)
    limit = parse_tolerance(tolerance, original.mean_loss)
    search = Search(task, calib, only, preset, seed)
    samples = sum(map(data.batch_size, held_out))
    if method.search is not None:
        results: Iterator[tuple[nn.Module, Chosen]] = iter([search.by_itself()])
    elif drop is not None:
        results = iter([search.at_drop(drop)])
    else:
        results = (search.within(MEMORISED * limit * BACK_OFF**look, samples) for look in range(LOOKS))
    looks = LOOKS if drop is None and method.search is None else 1
    for look, (trial, chosen) in enumerate(results, 1):
        module = search.finish(trial, chosen)
        verdict = verify_module(module, original, tolerance=limit, look=look, looks=looks, confidence=CONFIDENCE)
        if verdict.passed:
            break
    settings = {"preset": preset, "tolerance": str(tolerance), "drop": drop, "seed": seed}
    return search.report(module, trial, chosen, verdict, time.monotonic() - begin, settings)


@dataclass(frozen=True)
class Offers:
    """What every layer, by name, could be replaced with in one metric of errors."""

    analyses: dict[str, Analysis]
    candidates: dict[str, list[Candidate]]


class Search:
    """The original, what can be replaced in it, and what every rank of that is predicted to lose."""

    def __init__(self, task: Task, calib: list[Batch], only: Filter | None, preset: str, seed: int) -> None:
        self.task, self.calib, self.preset = task, calib, preset
        self.teacher = float32_copy(task.model)
        open_attention(self.teacher)
        self.student = self.teacher
        self.method: Ranks = strategy(RANKS, preset, "decompose")
        self.spreads = self.method.spreads
        self.generator = torch.Generator().manual_seed(seed)
        self.shown, self.held_back = data.split(calib, HELD_BACK, seed)
        self.sites: Sites = find_sites(self.teacher, only)
        if not self.sites.layers:
            raise BadInput(f"no layer can be decomposed: {self.sites.alone or 'none is linear or convolutional'}")
        self.sizes = {name: layer.weight.numel() for name, layer in self.sites.layers.items()}

    def forward(self, module: nn.Module, batch: Batch) -> Tensor:
        """Outputs (B, ..., K) of ``module`` in float32, by the task's own function where it has one."""
        return self.task.outputs(module, batch)

    def _batches(self, most: int) -> Iterator[Batch]:
        """The first samples of what may be shown to curvature, a few at a time."""
        return data.first_samples(self.shown, most, AT_A_TIME)

    @functools.cached_property
    def distiller(self) -> Distiller:
        """What tells how far outputs are from the original's."""
        with torch.no_grad():
            return distiller_of(self.task.distill, self.forward(self.teacher, next(self._batches(AT_A_TIME))))

    @functools.cached_property
    def curvature(self) -> dict[str, Curvature]:
        """That of every layer which calib reaches, in the order in which they are used."""
        for layer in self.sites.layers.values():
            layer.weight.requires_grad_(True)
        runs = ((functools.partial(self.forward, self.teacher, batch), data.batch_size(batch))
                for batch in self._batches(CURVATURE_SAMPLES))  # fmt: skip
        probe = functools.partial(self.distiller.probe, generator=self.generator)
        known = measure(self.teacher, self.sites.layers, runs, probe)
        self.teacher.requires_grad_(False)
        self.sites.alone.update(known.missed)
        return known

    @functools.cached_property
    def offers(self) -> Offers:
        """All candidates of every layer, in the first of the metrics that are tried."""
        return self._offers(self.spreads[0])

    def _offers(self, spread: float) -> Offers:
        layers, weighting = self.sites.layers, self.method.weighting
        analyses = {name: Analysis(layers[name], c, weighting, spread) for name, c in self.curvature.items()}
        with torch.no_grad():
            return Offers(analyses, {name: analysis.candidates() for name, analysis in analyses.items()})

    def build(self, offers: Offers, chosen: Chosen, refresh: bool) -> nn.Module:
        """The teacher with the chosen layers replaced."""
        runs: Sequence[Run] = ()
        if refresh and self.method.refreshes:
            runs = [functools.partial(self.forward, batch=batch) for batch in self._batches(REFRESH_SAMPLES)]
        with torch.no_grad():
            return build(self.teacher, offers.analyses, chosen, runs)

    def at_drop(self, share: float) -> tuple[nn.Module, Chosen]:
        """The choice of least predicted loss that drops this share of the decomposable parameters."""
        most = choose.dropped(choose.at_price(self.offers.candidates, self.sizes, math.exp(20)), self.sizes)
        wanted = share * sum(self.sizes.values())
        if most < wanted:
            raise BadInput(f"drop {share} asks for {wanted:.0f} parameters: at rank 1 {most} can be dropped")
        return self._nearest(wanted)

    def _nearest(self, wanted: float) -> tuple[nn.Module, Chosen]:
        """Of the metrics that are tried, the choice that drops so many parameters and moves held-back outputs least."""
        found: list[tuple[float, nn.Module, Chosen]] = []
        for spread in self.spreads:
            offers = self._offers(spread) if found else self.offers
            chosen = choose.at_drop(offers.candidates, self.sizes, wanted)
            module = self.build(offers, chosen, True)
            found.append((self._distance(module) if len(self.spreads) > 1 else 0.0, module, chosen))
        return min(found, key=lambda each: each[0])[1:]

    @torch.no_grad()
    def _distance(self, module: nn.Module) -> float:
        """How far outputs of ``module`` are from the original's on the part of calib held back."""
        outputs = ([self.forward(m, batch) for m in (module, self.teacher)] for batch in self.held_back)
        return float(torch.cat([self.distiller(*pair) for pair in outputs]).mean())

    def within(self, limit: float, samples: int) -> tuple[nn.Module, Chosen]:
        """As few parameters as keep the predicted bound of a test on so many ``samples`` within ``limit``."""
        predictor = Predictor(self, samples, CONFIDENCE, LOOKS)
        low, high = -40.0, 5.0  # of ln(price)
        best: Chosen = {}
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            chosen = choose.at_price(self.offers.candidates, self.sizes, math.exp(middle))
            self.student = self.build(self.offers, chosen, False)
            if predictor.bound(self.student) <= limit:
                low, best = middle, chosen
            else:
                high = middle
        return self._nearest(choose.dropped(best, self.sizes)) if best else (self.build(self.offers, {}, False), best)

    def by_itself(self) -> tuple[nn.Module, Chosen]:
        """The method's own search; it needs the labels of calib."""
        assert self.method.search is not None

        def losses(module: nn.Module) -> Iterator[Tensor]:
            return (self.task.labelled_losses(module, batch, f"the preset {self.preset!r}") for batch in self.calib)

        return self.method.search(self.teacher, self.sites.layers, losses)

    def finish(self, trial: nn.Module, chosen: Chosen) -> nn.Module:
        """A copy of the caller's model, in its own dtype and mode, with the factors of ``trial``."""
        module = copy.deepcopy(self.task.model)
        for name, layer in list(module.named_modules()):
            if openable(layer) and any(other.startswith(f"{name}.") for other in chosen):
                assert isinstance(layer, nn.MultiheadAttention)
                replace(module, layer, Attention(layer))
        for name in chosen:
            old: Any = module.get_submodule(name)
            replace(module, old, copied(trial.get_submodule(name), old))
        return module

    def report(
        self, module: nn.Module, trial: nn.Module, chosen: Chosen, verdict: Verdict, seconds: float,
        settings: dict[str, Any],
    ) -> Decomposition:  # fmt: skip
        """What was done."""
        batch = next(self._batches(AT_A_TIME))
        run = functools.partial(self.forward, batch=batch)
        flops = [count_flops(m, run, data.batch_size(batch)) for m in (self.teacher, trial)]
        parameters = [sum(p.numel() for p in m.parameters()) for m in (self.task.model, module)]
        looked_at = sum(self.sizes.values())
        left = looked_at - choose.dropped(chosen, self.sizes)
        return Decomposition(
            module, verdict, chosen, self.sites.alone, (parameters[0], parameters[1]), (looked_at, left),
            (flops[0], flops[1]), sum(map(data.batch_size, self.calib)), seconds, settings,
        )  # fmt: skip
