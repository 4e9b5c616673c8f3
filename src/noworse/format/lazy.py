"""A mapping whose values are made when they are asked for, so that one of them at a time is in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

V = TypeVar("V", covariant=True)


class Lazy(Mapping[str, V]):
    """Values by name from functions without arguments, which are called anew for every look-up."""

    def __init__(self, makers: Mapping[str, Callable[[], V]]) -> None:
        self._makers = makers

    def __len__(self) -> int:
        return len(self._makers)

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __getitem__(self, name: str) -> V:
        return self._makers[name]()
