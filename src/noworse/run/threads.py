"""Independent work by several threads, with the same bytes for any number of them."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


def each(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield ``function(item)`` of each item in their order, by as many threads as torch has.

    Torch itself has one thread in the meantime, so that no sum depends on their number. An error ends all.
    """
    count = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        if count == 1:
            yield from map(function, items)
            return
        with ThreadPoolExecutor(count) as pool:
            yield from pool.map(torch.no_grad()(function), items)
    finally:
        torch.set_num_threads(count)
