"""One representation for each layer within a size limit: a grouped (multiple-choice) knapsack, solved to the optimum.

    minimise  Σ_i c_i(j_i) + Σ_{i<k} p(i j_i, k j_k)      subject to      Σ_i size_i(j_i) ≤ limit

c is the loss that choice j of layer i costs alone, p what two choices cost beyond the sum: two coarse layers hurt each
other. Without p this is an integer program, which HiGHS solves with proof; with p it is solved again around the choice
found so far, as long as that gets better, and then one or two layers at a time change: good, but without proof.
Source: LLC (2024), Eq. 9; pairs as in CLADO (2023).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from noworse.errors import BadInput

Matrix = NDArray[np.float64]
ROUNDS = 12  # of solving around the last choice
PRICES = 100  # bisections for the price of a bit
SLACK = 1e-12  # of the largest cost: rounding
LEAST = 1e-12  # nats that a change must gain
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
        lengths, sizes = ([len(row) for row in table] for table in (self.costs, self.sizes))
        if not lengths or min(lengths) == 0 or lengths != sizes:
            raise BadInput(f"layers with {lengths} costs and {sizes} sizes: expected as many, at least one")
        if not np.isfinite(self.flat).all():
            raise BadInput("a cost or a size is not finite: expected numbers")
        total = sum(lengths)
        if self.pairs is not None and self.pairs.shape != (total, total):
            raise BadInput(f"pairs of shape {self.pairs.shape}: expected ({total}, {total})")

    @cached_property
    def flat(self) -> Matrix:
        """Costs and sizes of all choices, (2, n)."""
        return np.array([[x for row in table for x in row] for table in (self.costs, self.sizes)], float)

    @cached_property
    def owner(self) -> NDArray[np.int64]:
        """The layer of each choice, (n,)."""
        return np.repeat(np.arange(len(self.costs)), [len(row) for row in self.costs])

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """The number of each layer's first choice."""
        return np.unique(self.owner, return_index=True)[1]

    def size(self, chosen: Sequence[int]) -> float:
        """Return the bits of a choice for every layer."""
        return float(sum(row[j] for row, j in zip(self.sizes, chosen, strict=True)))

    def cost(self, chosen: Sequence[int]) -> float:
        """Return the nats of a choice for every layer, with its pairs."""
        alone = float(sum(row[j] for row, j in zip(self.costs, chosen, strict=True)))
        if self.pairs is None:
            return alone
        picked = self.offsets + np.array(chosen)
        among = self.pairs[np.ix_(picked, picked)]
        return alone + 0.5 * float(among.sum() - np.trace(among))

    def given(self, chosen: Sequence[int]) -> Matrix:
        """Return how much more every choice costs beside the ``chosen`` ones of the other layers, (n,)."""
        if self.pairs is None:
            return np.zeros(len(self.owner))
        picked = self.offsets + np.array(chosen)
        found: Matrix = self.pairs[:, picked].sum(1) - self.pairs[np.arange(len(self.owner)), picked[self.owner]]
        return found


def allocate(choices: Choices, limit: float) -> list[int]:
    """Return the choice of each layer that costs least in ``limit`` bits; BadInput where the smallest exceed it."""
    best = knapsack(choices, limit)
    if choices.pairs is None:
        return best
    starts = {tuple(best)}
    for damping in DAMPINGS:
        current = best
        for _ in range(ROUNDS):
            trial = knapsack(choices, limit, damping * choices.given(current))
            starts.add(tuple(trial))
            if choices.cost(trial) >= choices.cost(current) - LEAST:
                break
            current = trial
    return min((_descended(choices, limit, list(start)) for start in sorted(starts)), key=choices.cost)


def _descended(choices: Choices, limit: float, chosen: list[int]) -> list[int]:
    """The best change of one or two layers at a time, as long as that costs less."""
    while (best := next(_changes(choices, limit, chosen), None)) and best[0] < -LEAST:
        chosen = best[1]
    return chosen


def _changes(choices: Choices, limit: float, chosen: Sequence[int]) -> Iterator[tuple[float, list[int]]]:
    """What it costs more to change two layers, and the choice then, the cheapest first, within ``limit``.

    Where one of the two keeps its choice, it is the change of a single layer.
    """
    (alone, sizes), owner, offsets = choices.flat, choices.owner, choices.offsets
    now = (offsets + np.array(chosen))[owner]  # what is chosen in the layer of each choice
    total = alone + choices.given(chosen)
    change, more = total - total[now], sizes - sizes[now]
    both: Matrix = change[:, None] + change
    if choices.pairs is not None:
        both += choices.pairs - choices.pairs[:, now] - choices.pairs[now] + choices.pairs[np.ix_(now, now)]
    both[(owner[:, None] == owner) | (more[:, None] + more > limit - choices.size(chosen))] = np.inf
    while np.isfinite(least := both.min()):
        pair = np.unravel_index(int(both.argmin()), both.shape)
        changed = list(chosen)
        for k in pair:
            changed[owner[k]] = int(k - offsets[owner[k]])
        yield float(least), changed
        both[pair] = np.inf


def settle(
    choices: Choices, starts: Sequence[Sequence[int]], limit: float, loss: Callable[[Sequence[int]], float], tries: int
) -> list[int]:
    """Return the start of least measured ``loss`` of all its choices together, after the best of some changes of it.

    The changes of one or two layers within ``limit`` that are predicted to cost least are tried, ``tries`` in all; one
    that lowers the measured loss by more than chance (``GAIN``) is kept, and the next ones start from there.
    """
    known = {start: loss(start) for start in dict.fromkeys(map(tuple, starts))}
    best = min(known, key=known.__getitem__)
    for _ in range(tries):
        nearby = (tuple(changed) for _, changed in _changes(choices, limit, best))
        trial = next((t for t in nearby if t not in known), None)
        if trial is None:
            break
        known[trial] = loss(trial)
        if known[trial] < (1 - GAIN) * known[best]:
            best = trial
    return list(best)


def knapsack(choices: Choices, limit: float, extra: Matrix | None = None) -> list[int]:
    """Return the proven optimum without pairs, where choices cost ``extra`` (n,) more; BadInput as ``allocate``."""
    try:
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_matrix
    except ImportError as error:
        raise BadInput("allocation needs scipy: pip install noworse[torch]") from error
    least = sum(map(min, choices.sizes))
    if least > limit:
        raise BadInput(f"a size limit of {limit:.0f} bits: the smallest choice takes {least:.0f}")
    (costs, sizes), owner = choices.flat, choices.owner
    costs = costs + (0 if extra is None else extra)
    kept = np.flatnonzero(~_dominated(costs, sizes, owner))
    kept = kept[_possible(costs[kept], sizes[kept], owner[kept], limit)]
    costs, sizes, owner = costs[kept], sizes[kept], owner[kept]
    firsts = np.unique(owner, return_index=True)[1]
    one_each = csr_matrix((np.ones(len(kept)), (owner, np.arange(len(kept)))))
    costs = costs - np.minimum.reduceat(costs, firsts)[owner]
    scale = (float(costs.max()) or 1.0) / 1e3  # far above the solver's absolute tolerances
    whole = bool((sizes == sizes.round()).all())  # whole bits in their common unit: nothing lies within a tolerance
    unit = float(np.gcd.reduce(sizes.astype(np.int64)) if whole else sizes.max()) or 1.0
    room = math.floor(limit / unit + 1e-9) if whole else limit / unit
    within = LinearConstraint(csr_matrix(sizes[None] / unit), -np.inf, room)
    result = milp(
        costs / scale,
        integrality=np.ones(len(kept)),
        bounds=Bounds(0, 1),
        constraints=[LinearConstraint(one_each, 1, 1), within],
        options={"mip_rel_gap": 0.0, "presolve": False},  # HiGHS's presolve prints
    )
    if result.x is None or result.status != 0:
        raise BadInput(f"no allocation within {limit:.0f} bits was proven to be the best: {result.message}")
    chosen: list[int] = (kept[np.flatnonzero(result.x > 0.5)] - choices.offsets).tolist()
    if choices.size(chosen) > limit * (1 + 1e-9):  # the solver's own tolerance
        return knapsack(choices, limit * (1 - 1e-6), extra)
    return chosen


def _possible(costs: Matrix, sizes: Matrix, owner: NDArray[np.int64], limit: float) -> NDArray[np.bool_]:
    """Which choices may be part of an optimum: with the price λ of a bit, Σ min (c + λ s) − λ limit is a lower bound.

    A choice that lies further above its layer's minimum than the best known choice above the bound is in no optimum.
    """
    firsts = np.unique(owner, return_index=True)[1]

    def taken(price: float) -> NDArray[np.int64]:
        return np.lexsort((sizes, costs + price * sizes, owner))[firsts]  # of each layer the cheapest first

    def too_large(price: float) -> bool:
        return bool(sizes[taken(price)].sum() > limit)

    low = high = 0.0
    if too_large(0.0):
        high = 1.0
        while too_large(high):
            low, high = high, 4 * high
        for _ in range(PRICES):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if too_large(middle) else (low, middle)
    best = taken(high)
    reduced = costs + high * sizes
    above = reduced - reduced[best][owner]
    bound = float(reduced[best].sum() - high * limit)
    for k in np.argsort(above):  # what costs little more may fill the room that is left
        old = best[owner[k]]
        if costs[k] < costs[old] and sizes[best].sum() + sizes[k] - sizes[old] <= limit:
            best[owner[k]] = k
    gap = max(float(costs[best].sum()) - bound, 0.0)
    return above <= gap + SLACK * float(np.abs(costs).max())


def _dominated(costs: Matrix, sizes: Matrix, owner: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Choices than which another of the same layer is neither larger nor costs more."""
    found, best = np.zeros(len(costs), bool), np.full(owner[-1] + 1, np.inf)
    for k in np.lexsort((costs, sizes, owner)):
        found[k] = costs[k] >= best[owner[k]]
        best[owner[k]] = min(best[owner[k]], costs[k])
    return found


def back_off(choices: Choices, chosen: Sequence[int]) -> Iterator[list[int]]:
    """Yield the choice again and again with one layer more bits: that whose loss falls most for each of them."""
    current = list(chosen)
    while True:
        before, moves = choices.cost(current), []
        for i, row in enumerate(choices.sizes):
            for j, size in enumerate(row):
                if (more := size - row[current[i]]) > 0:
                    trial = [*current[:i], j, *current[i + 1 :]]
                    moves.append(((before - choices.cost(trial)) / more, i, j, trial))
        if not moves:
            return
        current = max(moves)[-1]
        yield current
