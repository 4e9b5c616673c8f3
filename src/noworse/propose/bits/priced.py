"""Proposals of bits for every weight of a net, what they cost alone and together, and allocations among them.

Rounding to few bits is fitted to the samples that it sees, and loses less there than elsewhere. So what proposals cost
is measured on other samples. Sums over layers, and even pairs, are predictions: several allocations of one size, and
small changes of the best of them, are put into the net as a whole, and the one that loses least is taken.
"""

from __future__ import annotations

import copy
import functools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from noworse.allocate.knapsack import Choices, allocate, back_off, settle
from noworse.errors import BadInput
from noworse.propose.bits.net import Net
from noworse.propose.bits.proposals import COSTS, FULL, TRUE, Proposal
from noworse.run.named import DEFAULT
from noworse.survey.subject import Subject
from noworse.task.data import Batch

JOINT_SAMPLES = 1024  # on which whole allocations are tried
TRIES = 12  # changes of the best allocation that are tried
Bits = float | Mapping[str, int]


@dataclass(frozen=True)
class LayerBits:
    """One row of the table: bits of a layer's weights and of its inputs (None: not quantised), how they are rounded."""

    name: str
    weights: int
    count: int
    activations: int | None
    rounding: str
    cost: float  # predicted loss of this weight alone, nats


class Priced(Net):
    """A net with its proposals, and what they cost in one way of ``COSTS``; see ``Net``."""

    def __init__(
        self, subject: Subject, activation_bits: int | None = None, preset: str = DEFAULT, cost: str = TRUE
    ) -> None:
        if cost not in COSTS:
            raise BadInput(f"unknown cost {cost!r}: expected one of {', '.join(COSTS)}")
        super().__init__(subject, activation_bits, preset)
        self.cost = cost

    def rounding_inputs(self, bits: int | None) -> Priced:
        """Return the same net with inputs of so many bits, None: as they are; what weights cost stays known."""
        _ = self.choices  # measured once, for both
        other = copy.copy(self)
        other.activation_bits = bits
        return other

    @functools.cached_property
    def proposals(self) -> list[list[Proposal]]:
        """What may be chosen for each site, without costs."""
        return self.method.propose(self)

    @functools.cached_property
    def choices(self) -> Choices:
        """The proposals with what they cost."""
        return self.priced(self.cost)

    @functools.cache  # noqa: B019  (a search lives as long as its costs)
    def priced(self, cost: str) -> Choices:
        """Return the proposals with what they cost in one way of ``COSTS``."""
        costs, pairs = self.method.costs(self, [proposal for row in self.proposals for proposal in row], cost)
        each = iter(costs)
        rows = [[next(each) for _ in row] for row in self.proposals]
        return Choices(rows, [[p.bits for p in row] for row in self.proposals], pairs)

    def pick(self, indices: Sequence[int]) -> list[Proposal]:
        """Return the proposals of these numbers, one per site."""
        return [row[j] for row, j in zip(self.proposals, indices, strict=True)]

    @property
    def count(self) -> int:
        """Weights of all sites."""
        return sum(site.weight.numel() for site in self.survey.sites)

    def at(self, bits: float) -> list[Proposal]:
        """Return the allocation within ``bits`` per weight on average."""
        if not isinstance(bits, (int, float)) or not math.isfinite(bits) or bits <= 0:
            raise BadInput(f"bits is {bits!r}: expected a positive number of bits per weight, or a mapping")
        return self.pick(self.settled(bits * self.count))

    def settled(self, limit: float) -> list[int]:
        """Return of several allocations within ``limit`` bits the one that loses least as a whole, for true costs."""
        if not self.method.settles or self.cost != TRUE:
            return allocate(self.choices, limit)
        starts = [allocate(self.choices, limit), allocate(replace(self.choices, pairs=None), limit)]
        starts += [allocate(self.priced(cost), limit) for cost in COSTS if cost != TRUE]
        alike = ([j] * len(self.proposals) for j in range(len(self.method.levels) + 1))
        starts += [chosen for chosen in alike if self.choices.size(chosen) <= limit][-1:]  # the largest that fits
        return settle(self.choices, starts, limit, self.joint_loss, TRIES)

    def joint_loss(self, indices: Sequence[int]) -> float:
        """Return the mean distillation loss with all these choices in place."""
        return self.distance(self.build(self.pick(indices)), self._joint)

    @functools.cached_property
    def _joint(self) -> list[tuple[Batch, Tensor]]:
        samples = min(JOINT_SAMPLES, 4 * self.affordable(sum(map(len, self.proposals))))
        return [(batch, self.forward(self.teacher, batch)) for batch in self.unseen(samples)]

    def fixed(self, bits: Mapping[str, int]) -> list[Proposal]:
        """Return the proposals of the bits given for each layer; layers without are left as they are."""
        offered = {site.name: row for site, row in zip(self.survey.sites, self.proposals, strict=True)}
        if unknown := [name for name in bits if name not in offered]:
            raise BadInput(f"bits names {', '.join(unknown)}: expected layers among {', '.join(offered)}")
        found = []
        for name, row in offered.items():
            widths = {proposal.width: proposal for proposal in row}
            wanted = bits.get(name, FULL)
            if wanted not in widths:
                raise BadInput(f"bits of {name!r} are {wanted!r}: expected one of {', '.join(map(str, widths))}")
            found.append(widths[wanted])
        return found

    def asked(self, bits: Bits) -> list[Proposal]:
        """Return the allocation within ``bits`` per weight on average, or with the bits given for each layer."""
        return self.fixed(bits) if isinstance(bits, Mapping) else self.at(bits)

    def larger(self, indices: Sequence[int], share: float) -> Iterator[list[int]]:
        """Yield allocations each larger by this share of bits than the one before, spent where they help most."""
        size = self.choices.size(indices)
        for more in back_off(self.choices, indices):
            if self.choices.size(more) >= (1 + share) * size:
                size = self.choices.size(more)
                yield more

    def table(self, chosen: Sequence[Proposal]) -> list[LayerBits]:
        """Return a row for each site."""
        rows = []
        for k, (site, proposal) in enumerate(zip(self.survey.sites, chosen, strict=True)):
            inputs = next((values.bits for values in self.ranges(proposal).values()), None)
            rounding = proposal.rounded.rounding if proposal.rounded else "none"
            known = "choices" in self.__dict__
            cost = self.choices.costs[k][self.proposals[k].index(proposal)] if known else math.nan
            rows.append(LayerBits(site.name, proposal.width, site.weight.numel(), inputs, rounding, cost))
        return rows
