"""The layers of a model that can be taken apart, what every rank of them is predicted to lose, and choices of ranks.

Methods go by the names of presets. At one price of a parameter for all layers, the slopes of predicted loss are equal,
and candidates are those on the convex hull of parameters and loss.
"""

import functools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from noworse.allocate.search import Bisection
from noworse.errors import BadInput
from noworse.model.device import home, seeded
from noworse.propose.ranks.build import Filter, Sites, build, find_sites, open_fused
from noworse.propose.ranks.candidates import Analysis, Candidate
from noworse.propose.ranks.spectrum import FISHER, KRONECKER, PLAIN, SCALED, WHITENED
from noworse.run.named import DEFAULT, named
from noworse.run.resume import NOWHERE
from noworse.survey.curvature import Curvature, Decomposable, measure_curvature
from noworse.survey.subject import AT_A_TIME, Subject
from noworse.task.distances import Distance

BISECTIONS = 40
CURVATURE_SAMPLES, REFRESH_SAMPLES = 2048, 256
Chosen = Mapping[str, Candidate]  # by name of the layer
Candidates = Mapping[str, Sequence[Candidate]]  # by name of the layer
Losses = Callable[[nn.Module], Iterable[Tensor]]  # per-sample losses (B,) of a module, batch by batch
Found = tuple[nn.Module, dict[str, Candidate]]  # a module with layers in factors, and what was chosen for them


@dataclass(frozen=True)
class RankStrategy:
    """A method: how the error of a rank is weighed, and a search of its own in place of ranks at equal slopes.

    Such a search takes the module, its layers by name and their losses with the labels of calib, and stops where it
    likes. Curvature holds near the original; where much is cut, outputs count that hardly mattered there: each of
    ``spreads``, a share of the outputs' mean gradient that is added to each, is tried on the part of calib held back.
    """

    weighting: str
    spreads: tuple[float, ...] = (0.0,)
    refreshes: bool = False  # layers are made anew for what the ones replaced before feed them
    search: Callable[[nn.Module, Mapping[str, Decomposable], Losses], Found] | None = None


PRESETS: dict[str, Any] = {
    DEFAULT: RankStrategy(KRONECKER, (0.0, 0.1, 1.0, 10.0), True),
    "svd": RankStrategy(PLAIN),
    "fwsvd": RankStrategy(FISHER),
    "asvd": RankStrategy(SCALED),
    "svd-llm": RankStrategy(WHITENED),
    "paper": "noworse.papers.llc.ranks:STRATEGY",
}


def at_price(offers: Candidates, sizes: Mapping[str, int], price: float) -> dict[str, Candidate]:
    """Return for every layer the candidate of least loss + price · parameters, where it beats the layer as it is."""

    def cost(candidate: Candidate) -> float:
        return candidate.loss + price * candidate.parameters

    best = {name: min(candidates, key=cost) for name, candidates in offers.items() if candidates}
    return {name: candidate for name, candidate in best.items() if cost(candidate) < price * sizes[name]}


def dropped(chosen: Mapping[str, Candidate], sizes: Mapping[str, int]) -> int:
    """Return the number of parameters saved."""
    return sum(sizes[name] - candidate.parameters for name, candidate in chosen.items())


def at_drop(offers: Candidates, sizes: Mapping[str, int], count: float) -> dict[str, Candidate]:
    """Return the choice of least predicted loss that saves at least about ``count`` parameters, or all that can be."""
    line = Bisection(-60.0, 20.0)  # of ln(price)
    for _ in range(BISECTIONS):
        line.at = line.tell(-dropped(at_price(offers, sizes, math.exp(line.at)), sizes), -count)
    return at_price(offers, sizes, math.exp(line.fits))


class Offers(NamedTuple):
    """What every layer, by name, could be replaced with in one metric of errors."""

    analyses: dict[str, Analysis]
    candidates: dict[str, list[Candidate]]


class Factoring:
    """A subject's teacher, its fused layers opened, and those layers that ``only`` accepts and that can be factored.

    ``preset`` names the strategy. BadInput where no layer can be decomposed.
    """

    def __init__(self, subject: Subject, only: Filter | None, preset: str) -> None:
        self.subject, self.preset, self.teacher = subject, preset, subject.teacher
        self.method: RankStrategy = named("preset", PRESETS, preset, RankStrategy)
        open_fused(self.teacher)
        self.spreads = self.method.spreads
        self.generator = seeded(home(self.teacher), subject.seed)
        self.sites: Sites = find_sites(self.teacher, only)
        if not self.sites.layers:
            raise BadInput(f"no layer can be decomposed: {self.sites.alone or 'none is linear or convolutional'}")
        self.sizes = {name: layer.weight.numel() for name, layer in self.sites.layers.items()}

    @functools.cached_property
    def distance(self) -> Distance:
        """The task's distance between outputs, on the scale of the original's."""
        return self.subject.distance(self.subject.original(next(self.subject.samples(AT_A_TIME))))

    @functools.cached_property
    def curvature(self) -> dict[str, Curvature]:
        """Curvatures of the layers which calib reaches, in the order in which these are used."""
        for layer in self.sites.layers.values():
            layer.weight.requires_grad_(True)
        runs = self.subject.sized_runs(self.teacher, CURVATURE_SAMPLES)
        probe = functools.partial(self.distance.probe, generator=self.generator)
        known = measure_curvature(self.teacher, self.sites.layers, runs, probe)
        self.teacher.requires_grad_(False)
        self.sites.alone.update(known.missed)
        return known

    @functools.cached_property
    def offers(self) -> Offers:
        """All candidates of every layer, in the first of the metrics that are tried."""
        return self._offers(self.spreads[0])

    @torch.no_grad()
    def _offers(self, spread: float) -> Offers:
        layers, weighting = self.sites.layers, self.method.weighting
        analyses = {name: Analysis(layers[name], c, weighting, spread) for name, c in self.curvature.items()}
        return Offers(analyses, {name: analysis.candidates() for name, analysis in analyses.items()})

    @torch.no_grad()
    def build(self, chosen: Chosen, offers: Offers | None = None, anew: str = "") -> nn.Module:
        """Return the teacher with the chosen layers replaced; ``anew``, a name of them: each for its inputs then."""
        batches = self.subject.samples(REFRESH_SAMPLES) if anew and self.method.refreshes else ()
        runs = [functools.partial(self.subject.forward, batch=batch) for batch in batches]
        work = self.subject.work if anew else NOWHERE
        return build(self.teacher, (offers or self.offers).analyses, chosen, runs, work, anew)

    def at_price(self, logarithm: float) -> Chosen:
        """Return the ranks at a price of e^``logarithm`` nats for each parameter that is kept."""
        return at_price(self.offers.candidates, self.sizes, math.exp(logarithm))

    def at_drop(self, share: float) -> tuple[nn.Module, Chosen]:
        """Return the choice of least predicted loss that drops this share of the decomposable parameters."""
        most = dropped(self.at_price(20), self.sizes)
        wanted = share * sum(self.sizes.values())
        if most < wanted:
            raise BadInput(f"drop {share} asks for {wanted:.0f} parameters: at rank 1 {most} can be dropped")
        return self.nearest(wanted)

    def nearest(self, wanted: float) -> tuple[nn.Module, Chosen]:
        """Return, of the metrics tried, the choice that drops so many parameters and moves held-back outputs least."""
        tried: list[tuple[float, nn.Module, Chosen]] = []
        for spread in self.spreads:
            offers = self._offers(spread) if tried else self.offers
            chosen = at_drop(offers.candidates, self.sizes, wanted)
            module = self.build(chosen, offers, f"{wanted!r} parameters less, spread {spread}")
            tried.append((self.mean_distance(module) if len(self.spreads) > 1 else 0.0, module, chosen))
        return min(tried, key=lambda each: each[0])[1:]

    @torch.no_grad()
    def mean_distance(self, module: nn.Module) -> float:
        """Return how far outputs of ``module`` are from the original's on the part of calib held back."""
        forward = self.subject.forward
        outputs = ([forward(m, batch) for m in (module, self.teacher)] for batch in self.subject.held_back)
        return float(torch.cat([self.distance(*pair) for pair in outputs]).mean())

    def by_itself(self) -> tuple[nn.Module, Chosen]:
        """Return what the strategy's own search finds; it needs the labels of calib."""
        assert self.method.search is not None
        subject, what = self.subject, f"the preset {self.preset!r}"

        def losses(module: nn.Module) -> Iterator[Tensor]:
            return (subject.task.labelled_losses(module, batch, what) for batch in subject.calib)

        return self.method.search(self.teacher, self.sites.layers, losses)
