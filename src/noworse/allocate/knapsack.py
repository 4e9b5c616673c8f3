"""One representation for each layer within a size limit: a grouped (multiple-choice) knapsack, solved to the optimum.

    minimise  Σ_i c_i(j_i) + Σ_{i<k} p(i j_i, k j_k)      subject to      Σ_i size_i(j_i) ≤ limit

c is the loss that choice j of layer i costs alone, p what two choices cost beyond the sum: two coarse layers hurt each
other. Without p this is an integer program, which HiGHS solves with proof; with p it is solved again around the choice
found so far, as long as that gets better, and then one or two layers at a time change: good, but without proof.
Source: LLC (2024), Eq. 9; pairs as in CLADO (2023).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from noworse.errors import BadInput

Matrix = NDArray[np.float64]
ROUNDS = 12  # of solving around the last choice
PRICES = 100  # bisections for the price of a bit
SLACK = 1e-12  # of the largest cost: rounding
GAIN = 0.02  # of the measured loss, less is chance
DAMPINGS = (1.0, 0.5, 0.25)  # shares of the pairs that a round takes as given


@dataclass(frozen=True)
class Choices:
    """What may be chosen: ``costs[i][j]`` in nats and ``sizes[i][j]`` in bits of choice j of layer i.

    ``pairs`` (n, n) holds p for all choices, numbered layer by layer; None: layers add up. BadInput where a layer has
    no choice, or the lists disagree.
    """

    costs: Sequence[Sequence[float]]
    sizes: Sequence[Sequence[float]]
    pairs: Matrix | None = None

    def __post_init__(self) -> None:
        lengths = [len(row) for row in self.costs]
        if not lengths or min(lengths) == 0 or lengths != [len(row) for row in self.sizes]:
            sizes = [len(row) for row in self.sizes]
            raise BadInput(f"layers with {lengths} costs and {sizes} sizes: expected as many, at least one")
        flat = np.array([x for row in [*self.costs, *self.sizes] for x in row], float)
        if not np.isfinite(flat).all():
            raise BadInput("a cost or a size is not finite: expected numbers")
        total = sum(lengths)
        if self.pairs is not None and self.pairs.shape != (total, total):
            raise BadInput(f"pairs of shape {self.pairs.shape}: expected ({total}, {total})")

    @property
    def offsets(self) -> NDArray[np.int64]:
        """The number of each layer's first choice."""
        return np.concatenate([[0], np.cumsum([len(row) for row in self.costs])[:-1]]).astype(np.int64)

    def size(self, chosen: Sequence[int]) -> float:
        """Bits of a choice for every layer."""
        return float(sum(row[j] for row, j in zip(self.sizes, chosen, strict=True)))

    def cost(self, chosen: Sequence[int]) -> float:
        """Nats of a choice for every layer, with its pairs."""
        alone = float(sum(row[j] for row, j in zip(self.costs, chosen, strict=True)))
        if self.pairs is None:
            return alone
        picked = self.offsets + np.array(chosen)
        among = self.pairs[np.ix_(picked, picked)]
        return alone + 0.5 * float(among.sum() - np.trace(among))


def allocate(choices: Choices, limit: float) -> list[int]:
    """The choice of each layer that costs least within ``limit`` bits; BadInput where even the smallest exceed it."""
    best = knapsack(choices, limit)
    if choices.pairs is None:
        return best
    starts = {tuple(best)}
    for damping in DAMPINGS:
        current = best
        for _ in range(ROUNDS):
            trial = knapsack(choices, limit, damping * _given(choices, current))
            starts.add(tuple(trial))
            if choices.cost(trial) >= choices.cost(current) - 1e-12:
                break
            current = trial
    found = [_descend(choices, limit, list(start)) for start in sorted(starts)]
    return min(found, key=choices.cost)


def _given(choices: Choices, chosen: Sequence[int]) -> Matrix:
    """What every choice costs with those of the other layers as they are, (n,)."""
    assert choices.pairs is not None
    picked = choices.offsets + np.array(chosen)
    lengths = [len(row) for row in choices.costs]
    own = np.repeat(picked, lengths)  # the choice taken in the layer that a choice belongs to
    found: Matrix = choices.pairs[:, picked].sum(1) - choices.pairs[np.arange(len(own)), own]
    return found


def _changes(choices: Choices, limit: float, chosen: Sequence[int]) -> Matrix:
    """What it costs more to take two choices (n, n) instead of those of their layers; infinite where that is not free.

    Where one of the two is taken already, it is the change of a single layer.
    """
    lengths = [len(row) for row in choices.costs]
    owner = np.repeat(np.arange(len(lengths)), lengths)
    alone, sizes = (np.concatenate([np.asarray(row) for row in table]) for table in (choices.costs, choices.sizes))
    usable = owner[:, None] != owner
    now = (choices.offsets + np.array(chosen))[owner]  # what is chosen in the layer of each choice
    total = alone if choices.pairs is None else alone + _given(choices, chosen)
    change, more = total - total[now], sizes - sizes[now]
    both: Matrix = change[:, None] + change
    if choices.pairs is not None:
        both += choices.pairs - choices.pairs[:, now] - choices.pairs[now] + choices.pairs[np.ix_(now, now)]
    both[~usable | (more[:, None] + more > limit - choices.size(chosen))] = np.inf
    return both


def _changed(choices: Choices, chosen: Sequence[int], numbers: Sequence[int]) -> list[int]:
    """The choice with these instead of those of their layers."""
    found, offsets = list(chosen), choices.offsets
    for k in numbers:
        layer = int(np.searchsorted(offsets, k, "right")) - 1
        found[layer] = int(k - offsets[layer])
    return found


def _descend(choices: Choices, limit: float, chosen: list[int]) -> list[int]:
    """The best change of one or two layers at a time, as long as that costs less."""
    while len(chosen) > 1:
        both = _changes(choices, limit, chosen)
        a, b = np.unravel_index(int(both.argmin()), both.shape)
        if not both[a, b] < -1e-12:
            break
        chosen = _changed(choices, chosen, (int(a), int(b)))
    return chosen


def settle(
    choices: Choices,
    starts: Sequence[Sequence[int]],
    limit: float,
    loss: Callable[[Sequence[int]], float],
    tries: int,
) -> list[int]:
    """The start of least measured ``loss`` of all its choices together, then the best of some changes of it.

    The changes of one or two layers within ``limit`` that are predicted to cost least are tried, ``tries`` in all; one
    that lowers the measured loss by more than chance (``GAIN``) is kept, and the next ones start from there.
    """
    known: dict[tuple[int, ...], float] = {}
    for start in starts:
        if tuple(start) not in known:
            known[tuple(start)] = loss(start)
    best = min(known, key=known.__getitem__)
    for _ in range(tries):
        trial = next((t for t in _nearby(choices, limit, best) if t not in known), None)
        if trial is None:
            break
        known[trial] = loss(trial)
        if known[trial] < (1 - GAIN) * known[best]:
            best = trial
    return list(best)


def _nearby(choices: Choices, limit: float, chosen: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Changes of one or two layers, those first that are predicted to cost least."""
    if len(chosen) > 1:
        both = _changes(choices, limit, chosen)
        for k in np.argsort(both, axis=None, kind="stable")[: int(np.isfinite(both).sum())]:
            a, b = np.unravel_index(int(k), both.shape)
            yield tuple(_changed(choices, chosen, (int(a), int(b))))


def knapsack(choices: Choices, limit: float, extra: Matrix | None = None) -> list[int]:
    """The proven optimum without pairs, where each choice costs ``extra`` (n,) more."""
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_matrix
    except ImportError as error:
        raise BadInput("allocation needs scipy: pip install noworse[torch]") from error
    lengths = [len(row) for row in choices.costs]
    costs = np.concatenate([np.asarray(row, float) for row in choices.costs]) + (0 if extra is None else extra)
    sizes = np.concatenate([np.asarray(row, float) for row in choices.sizes])
    owner = np.repeat(np.arange(len(lengths)), lengths)
    least = sum(float(sizes[owner == i].min()) for i in range(len(lengths)))
    if least > limit:
        raise BadInput(f"a size limit of {limit:.0f} bits: the smallest choice takes {least:.0f}")
    kept = np.flatnonzero(~_dominated(costs, sizes, owner))
    kept = kept[_possible(costs[kept], sizes[kept], owner[kept], limit)]
    costs, sizes, owner = costs[kept], sizes[kept], owner[kept]
    one_each = csr_matrix((np.ones(len(kept)), (owner, np.arange(len(kept)))), shape=(len(lengths), len(kept)))
    costs = costs - np.array([costs[owner == i].min() for i in range(len(lengths))])[owner]
    scale = (float(costs.max()) or 1.0) / 1e3  # far above the solver's absolute tolerances
    whole = bool((sizes == sizes.round()).all())  # whole bits in their common unit: nothing lies within a tolerance
    unit = float(np.gcd.reduce(sizes.astype(np.int64)) if whole else sizes.max()) or 1.0
    room = math.floor(limit / unit + 1e-9) if whole else limit / unit
    result = milp(
        costs / scale,
        integrality=np.ones(len(kept)),
        bounds=Bounds(0, 1),
        constraints=[
            LinearConstraint(one_each, 1, 1),
            LinearConstraint(csr_matrix(sizes[None] / unit), -np.inf, room),
        ],
        options={"mip_rel_gap": 0.0, "presolve": False},  # HiGHS's presolve prints
    )
    if result.x is None or result.status != 0:
        raise BadInput(f"no allocation within {limit:.0f} bits was proven to be the best: {result.message}")
    taken = kept[np.flatnonzero(result.x > 0.5)]
    chosen = [int(k - start) for k, start in zip(taken, choices.offsets, strict=True)]
    if choices.size(chosen) > limit * (1 + 1e-9):  # the solver's own tolerance
        return knapsack(choices, limit * (1 - 1e-6), extra)
    return chosen


def _possible(costs: Matrix, sizes: Matrix, owner: NDArray[np.int64], limit: float) -> NDArray[np.bool_]:
    """Which choices may be part of an optimum: with the price λ of a bit, Σ min (c + λ s) − λ limit is a lower bound.

    A choice that lies further above its layer's minimum than the best known choice above the bound is in no optimum.
    """
    firsts = np.flatnonzero(np.concatenate([[True], np.diff(owner) > 0]))

    def taken(price: float) -> NDArray[np.int64]:
        priced = costs + price * sizes
        order = np.lexsort((sizes, priced, owner))  # of each layer the cheapest first
        return order[firsts]

    if sizes[taken(0.0)].sum() <= limit:
        low = high = 0.0
    else:
        low, high = 0.0, 1.0
        while sizes[taken(high)].sum() > limit:
            low, high = high, 4 * high
        for _ in range(PRICES):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if sizes[taken(middle)].sum() > limit else (low, middle)
    best = taken(high)
    reduced = costs + high * sizes
    bound = float(reduced[best].sum() - high * limit)
    for k in np.argsort(reduced - reduced[best][owner]):  # what costs little more may fill the room that is left
        old = best[owner[k]]
        if costs[k] < costs[old] and sizes[best].sum() + sizes[k] - sizes[old] <= limit:
            best[owner[k]] = k
    gap = max(float(costs[best].sum()) - bound, 0.0)
    return reduced - reduced[taken(high)][owner] <= gap + SLACK * float(np.abs(costs).max())


def _dominated(costs: Matrix, sizes: Matrix, owner: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Choices than which another of the same layer is neither larger nor costs more."""
    found = np.zeros(len(costs), bool)
    for i in range(int(owner[-1]) + 1):
        rows = np.flatnonzero(owner == i)
        order = rows[np.lexsort((costs[rows], sizes[rows]))]
        best = np.minimum.accumulate(np.concatenate([[np.inf], costs[order]]))[:-1]
        found[order[costs[order] >= best]] = True
    return found


def back_off(choices: Choices, chosen: Sequence[int]) -> Iterator[list[int]]:
    """The choice again and again with one layer more bits: that whose loss falls most for each of them."""
    current = list(chosen)
    while True:
        moves = []
        before = choices.cost(current)
        for i, row in enumerate(choices.sizes):
            for j, size in enumerate(row):
                more = size - row[current[i]]
                if more > 0:
                    trial = [*current[:i], j, *current[i + 1 :]]
                    moves.append(((before - choices.cost(trial)) / more, i, j))
        if not moves:
            return
        _, i, j = max(moves)
        current = [*current[:i], j, *current[i + 1 :]]
        yield current
