"""Layers of a student in factors while it is tuned, and their way into the file as products under their own names."""

import copy
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from torch import Tensor, nn

from noworse.model.factorised import DENSE, SPATIAL, SPLITS
from noworse.propose.grids.specs import outlying
from noworse.propose.ranks.build import find_sites, put
from noworse.propose.ranks.candidates import Analysis, Candidate
from noworse.propose.ranks.spectrum import KRONECKER
from noworse.representation import Grid, Product, Representation
from noworse.survey.curvature import measure_curvature

LEAST = 4096  # weights of a layer that is worth a look
GRID = "grid"  # the way of a layer that stays as it is

RankChoice = tuple[str, int]  # the way of seeing a weight as a matrix (model/factorised.py), and the rank


@dataclass(frozen=True)
class Factors:
    """Entries of a student's state whose product is a tensor of ``shape``, seen as a matrix in this ``way``."""

    left: str
    right: str
    way: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class FileEntries:
    """Which entries of a student's state make up which of the file."""

    products: dict[str, Factors] = field(default_factory=dict)  # by name in the file
    renamed: dict[str, str] = field(default_factory=dict)  # entry of the student: name in the file

    def order(self, names: Iterable[str]) -> list[str]:
        """Return the names in the file for entries of the student, in their order."""
        homes = self.renamed | {factors.left: name for name, factors in self.products.items()}
        right = {factors.right for factors in self.products.values()}
        return [homes.get(name, name) for name in names if name not in right]

    def item(self, name: str, made: Callable[[str], Representation]) -> Representation:
        """Return what the file holds under ``name``; ``made`` gives the representation of an entry of the student."""
        if name not in self.products:
            back = {new: old for old, new in self.renamed.items()}
            return made(back.get(name, name))
        factors = self.products[name]
        left, right = made(factors.left), made(factors.right)
        assert isinstance(left, Grid)
        assert isinstance(right, Grid)
        rank, codes = right.shape[0], left.codes.reshape(left.shape)
        if factors.way == SPATIAL:  # (O, r, 1, W) to (O, W, 1, r), whose rows are those of the matrix
            codes = codes.transpose(0, 3, 2, 1)
        left = replace(left, codes=np.ascontiguousarray(codes).reshape(-1), shape=(codes.size // rank, rank))
        right = replace(right, shape=(rank, right.codes.size // rank))
        return Product(left, right, SPLITS[factors.way], factors.shape, left.dtype)


@dataclass(frozen=True)
class Plan:
    """Layers that may be in factors, largest first, and what is chosen for those that are."""

    analyses: Mapping[str, Analysis] = field(default_factory=dict)
    chosen: Mapping[str, RankChoice] = field(default_factory=dict)

    def ranks(self) -> dict[str, int]:
        """Return the rank of each layer in factors."""
        return {name: rank for name, (_, rank) in self.chosen.items()}

    def families(self) -> dict[str, int]:
        """Return how many of these layers are written in each of the ways that were open to them."""
        open_ = dict.fromkeys(way for analysis in self.analyses.values() for way in (GRID, *analysis.ways))
        taken = Counter(self.chosen[name][0] if name in self.chosen else GRID for name in self.analyses)
        return {way: taken[way] for way in open_}


GRIDS_ALONE = Plan()


def factor(student: nn.Module, plan: Plan) -> FileEntries:
    """Replace layers of ``student``, in place, by factors of the planned ranks."""
    found = FileEntries()
    for name, (way, rank) in plan.chosen.items():
        layer = plan.analyses[name].layer
        put(student, name, plan.analyses[name], Candidate(way, (rank,)))
        shape = tuple(layer.weight.shape)
        found.products[f"{name}.weight"] = Factors(f"{name}.1.weight", f"{name}.0.weight", way, shape)
        if getattr(layer, "bias", None) is not None:
            found.renamed[f"{name}.1.bias"] = f"{name}.bias"
    return found


def analyse(
    student: nn.Module,
    kept: Iterable[str],
    runs: Iterable[tuple[Callable[[], Tensor], int]],
    probe: Callable[[Tensor], Tensor],
) -> dict[str, Analysis]:
    """Return the layers of ``student`` that may be worth factors, the largest first.

    ``kept`` weights are not, nor those with outliers: only a grid has a list of them beside it.
    """
    kept = set(kept)
    sites = find_sites(student, lambda n, layer: isinstance(layer, DENSE[:2]) and f"{n}.weight" not in kept).layers
    layers = {n: layer for n, layer in sites.items() if layer.weight.numel() >= LEAST and bool(layer.weight.any())}
    layers = {n: layer for n, layer in layers.items() if not len(outlying(layer.weight, layer.weight).places)}
    for layer in layers.values():
        layer.weight.requires_grad_(True)
    known = measure_curvature(student, layers, runs, probe)
    student.requires_grad_(False)
    found = {name: Analysis(copy.deepcopy(layers[name]), known[name], KRONECKER) for name in known}
    return dict(sorted(found.items(), key=lambda item: -item[1].layer.weight.numel()))
