"""Layers of a student in factors while it is tuned, and their way into the file as products under their own names."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from noworse.methods.lowrank.build import put
from noworse.methods.lowrank.candidates import Analysis, Candidate
from noworse.methods.lowrank.sites import find_sites
from noworse.methods.lowrank.spectrum import KRONECKER
from noworse.model.factorised import FLAT, SPLITS
from noworse.representation import Grid, Product, Representation
from noworse.sensitivity.kronecker import measure

LEAST = 4096  # weights of a layer that is worth a look
RANKS = 7  # that are offered of a layer: below break-even, each half of the one before
NEAR = (0.75, 1.4)  # of the best of these: ranks that are tried then


@dataclass(frozen=True)
class Factored:
    """Which entries of a student's state make up which of the file."""

    products: dict[str, tuple[str, str, tuple[int, ...]]] = field(default_factory=dict)  # name: left, right, shape
    renamed: dict[str, str] = field(default_factory=dict)  # entry of the student: name in the file

    def order(self, names: Iterable[str]) -> list[str]:
        """Names in the file for entries of the student, in their order."""
        homes = {left: name for name, (left, _, _) in self.products.items()}
        right = {right for _, right, _ in self.products.values()}
        return [homes.get(name, self.renamed.get(name, name)) for name in names if name not in right]

    def item(self, name: str, made: Callable[[str], Representation]) -> Representation:
        """What the file holds under ``name``; ``made`` gives the representation of an entry of the student."""
        if name not in self.products:
            back = {new: old for old, new in self.renamed.items()}
            return made(back.get(name, name))
        left, right, shape = self.products[name]
        factors = made(left), made(right)
        assert isinstance(factors[0], Grid)
        assert isinstance(factors[1], Grid)
        return Product(factors[0], factors[1], SPLITS[FLAT], shape, factors[0].dtype)


@dataclass(frozen=True)
class Plan:
    """Layers that may be in factors, largest first, and the ranks of those that are."""

    analyses: Mapping[str, Analysis] = field(default_factory=dict)
    ranks: Mapping[str, int] = field(default_factory=dict)


GRIDS_ALONE = Plan()


def factor(student: nn.Module, plan: Plan) -> Factored:
    """Replace dense layers of ``student``, in place, by factors of the planned ranks."""
    found = Factored()
    for name, rank in plan.ranks.items():
        layer = plan.analyses[name].layer
        shape = tuple(layer.weight.shape)
        put(student, name, plan.analyses[name], Candidate(FLAT, (rank,), 0, 0.0, 0.0))
        found.products[f"{name}.weight"] = f"{name}.1.weight", f"{name}.0.weight", shape
        if getattr(layer, "bias", None) is not None:
            found.renamed[f"{name}.1.bias"] = f"{name}.bias"
    return found


def analyse(
    student: nn.Module,
    kept: Iterable[str],
    runs: Iterable[tuple[Callable[[], Tensor], int]],
    probe: Callable[[Tensor], Tensor],
) -> dict[str, Analysis]:
    """The linear layers of ``student`` that may be worth factors, the largest first; ``kept`` weights are not."""
    untouched = set(kept)
    sites = find_sites(student, lambda name, layer: isinstance(layer, nn.Linear)).layers
    large = {n: v for n, v in sites.items() if v.weight.numel() >= LEAST and bool(v.weight.any())}
    layers = {name: layer for name, layer in large.items() if f"{name}.weight" not in untouched}
    for layer in layers.values():
        layer.weight.requires_grad_(True)
    known = measure(student, layers, runs, probe)
    student.requires_grad_(False)
    found = {name: Analysis(copy.deepcopy(layers[name]), known[name], KRONECKER) for name in known}
    return dict(sorted(found.items(), key=lambda item: -item[1].layer.weight.numel()))


def most_rank(analysis: Analysis) -> int:
    """The largest rank below break-even."""
    m, n = analysis.layer.weight.flatten(1).shape
    return int((m * n - 1) // (m + n))


def offered(analysis: Analysis) -> Sequence[int]:
    """Ranks to try, from just below break-even down."""
    most = most_rank(analysis)
    return sorted({most >> k for k in range(RANKS) if most >> k}, reverse=True)


def descend(analyses: Mapping[str, Analysis], loss: Callable[[Mapping[str, int]], float]) -> dict[str, int]:
    """Ranks of least ``loss`` (of a file of one size, whatever the ranks): layer by layer, largest first.

    Layers that factors do not serve stay dense.
    """
    best: dict[str, int] = {}
    least = loss(best)
    for name, analysis in analyses.items():
        base, ranks = best, offered(analysis)
        for nearby in (False, True):
            if nearby:
                around = (round(share * best[name]) for share in NEAR) if name in best else ()
                ranks = [rank for rank in around if 1 <= rank <= most_rank(analysis)]
            for rank in ranks:
                found = loss({**base, name: rank})
                if found < least:
                    best, least = {**base, name: rank}, found
    return best
