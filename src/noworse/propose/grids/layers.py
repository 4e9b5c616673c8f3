"""Layers whose rounding is compensated: each belongs to one process, which alone knows its moments and rounds it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterator, Mapping

import torch
from torch import Tensor

from noworse.propose.grids.compensated import LARGEST_STEP, Layer, Meter, start_at
from noworse.propose.grids.grid import GridSet
from noworse.propose.grids.untuned import Untuned
from noworse.run.processes import ALONE, World
from noworse.run.threads import each

ATTEMPTS, SLACK = 8, 0.003  # at a start, and how far from its bits that may stay, as a logarithm
Tell = Callable[[int, int], object]  # how much of it is done, and of how much


class Layers:
    """Layers by the name of their weight; all ranks make the same calls.

    ``left`` tells of each what is left of an error (``Layer.curvature``), on every rank.
    """

    def __init__(self, world: World = ALONE, held: Mapping[str, Layer] | None = None) -> None:
        self.world = world
        self.held = dict(held or {})  # those of this rank
        self._homes = dict.fromkeys(self.held, world.rank)
        self.left = {name: layer.curvature() for name, layer in self.held.items()}

    def __bool__(self) -> bool:
        return bool(self.left)

    def among(self, names: Collection[str]) -> Layers:
        """Return those of these names."""
        chosen = Layers(self.world)
        chosen.held = {name: layer for name, layer in self.held.items() if name in names}
        chosen._homes = {name: home for name, home in self._homes.items() if name in names}
        chosen.left = {name: left for name, left in self.left.items() if name in names}
        return chosen

    def own(self, weights: Mapping[str, Tensor]) -> list[str]:
        """Return the names of the weights that are to be this rank's: they are dealt out, the largest first."""
        return _ranked(weights)[self.world.rank :: self.world.size]

    def add(self, weights: Mapping[str, Tensor], moments: dict[str, Tensor], damping: float) -> None:
        """Add layers, by the moments of those of this rank, which are used up."""

        def made(name: str) -> tuple[str, Layer]:
            return name, Layer(weights[name].shape, moments.pop(name), damping)

        found = dict(each(made, list(moments)))
        ranked = _ranked(weights)
        own = [found[name].curvature() if name in found else 0.0 for name in ranked]
        left = self.world.sum_(torch.tensor(own, dtype=torch.float64, device="cpu"))
        for place, (name, value) in enumerate(zip(ranked, left.tolist(), strict=True)):
            if value > 0:  # all but what is no layer, or was never called
                self.left[name], self._homes[name] = value, place % self.world.size
        self.held |= found

    @torch.no_grad()
    def round(self, grids: GridSet, tell: Tell) -> None:
        """Move the weights of all layers to where rounding at the present steps compensates itself."""
        homes = {k: self._homes[spec.name] for k, spec in enumerate(grids.specs) if spec.name in self._homes}
        dealt = [[k for k in reversed(homes) if homes[k] == rank] for rank in range(self.world.size)]  # largest first
        of, most, done = len(dealt[self.world.rank]), max(map(len, dealt)), 0
        at_once = max(1, most) if self.world.size == 1 else self.world.agree(torch.get_num_threads())
        for first in range(0, most, at_once):  # few, since weights are brought to where a layer is
            for _ in self._round({k: homes[k] for own in dealt for k in own[first : first + at_once]}, grids):
                done += 1
                tell(done, of)

    def _round(self, homes: Mapping[int, int], grids: GridSet) -> Iterator[None]:
        """Move the weights of some layers, by number, whose homes are given; yield after each of this rank's."""
        steps, zones = grids.steps().tolist(), grids.zones().tolist()
        away = {k: home for k, home in homes.items() if home != grids.shares.homes[k]}
        guests: dict[int, Tensor] = {}  # weights of layers of this rank, of which another has the latents
        for k, home in away.items():
            row = grids.fetch(k, functools.partial(grids.weights, k))
            guests |= {k: row} if home == self.world.rank else {}

        def move(k: int) -> None:
            spec = grids.specs[k]
            gone = spec.outliers.mask(spec.shape) if len(spec.outliers.places) else None
            weights = spec.unflatten(guests[k] if k in guests else grids.weights(k))
            moved = self.held[spec.name].compensated(weights, steps[k], zones[k], gone=gone)
            if k in guests:
                guests[k] = spec.flatten(moved).to(grids.device)
            else:
                grids.set_weights(k, moved)

        yield from each(move, [k for k in homes if homes[k] == self.world.rank])
        for k, home in away.items():
            row = guests.pop(k) if k in guests else grids.latent.new_empty(grids.sizes[k])
            self.world.copy_([row], home)
            grids.set_weights(k, grids.specs[k].unflatten(row))


def _ranked(weights: Mapping[str, Tensor]) -> list[str]:
    """Names in the order in which weights are dealt out."""
    return sorted(weights, key=lambda name: weights[name].numel(), reverse=True)


def start_compensated(
    untuned: Untuned,
    layers: Layers,
    sensitivity: Mapping[str, float],
    bits: float,
    meter: Meter,
    cost: Callable[[], float],
    tell: Tell = lambda done, of: None,
) -> tuple[float, float]:
    """Set steps as ``start_at`` does, and move the weights of all ``layers`` to where rounding compensates itself.

    ``meter`` is that of the ``untuned`` weights; ``cost()`` tells the bits of the codes as they are written. Moved
    weights take more of them: it is tried again with larger steps until codes take about ``bits`` bits. Return the
    multiplier λ, and the bits they take.
    """
    grids, asked = untuned.grids, bits
    slopes = {name: f * layers.left.get(name, 1.0) for name, f in sensitivity.items()}
    for _ in range(ATTEMPTS):
        untuned.restore()
        multiplier = start_at(grids, slopes, asked, meter, LARGEST_STEP)
        layers.round(grids, tell)
        found = layers.world.agree(cost())
        if abs(math.log(found / bits)) <= SLACK:
            break
        asked *= bits / found
    return multiplier, found
