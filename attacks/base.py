"""What attacks are, and the honest files that they start from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from attacks.forge import small_model
from noworse.format import File, pack
from noworse.representation import Representation


@dataclass(frozen=True)
class Attack:
    """A bad file, what it is, and a part of the message with which it must be refused."""

    name: str
    what: str
    answer: str
    data: Callable[[], bytes]


REGISTERED: list[Attack] = []


def attack(answer: str) -> Callable[[Callable[[], bytes]], Callable[[], bytes]]:
    """Register a maker of a file."""

    def register(make: Callable[[], bytes]) -> Callable[[], bytes]:
        REGISTERED.append(Attack(make.__name__.replace("_", "-"), " ".join((make.__doc__ or "").split()), answer, make))
        return make

    return register


@cache
def model() -> File:
    """The honest file that most attacks start from: six tensors, one of every kind and a tie."""
    return File(pack(small_model(), {"seed": 1}, {"verdict": "no worse"}))


def one(item: Representation) -> File:
    """An honest file of one tensor."""
    return File(pack({"a": item}, {}, None))
