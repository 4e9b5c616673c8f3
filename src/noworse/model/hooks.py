"""Hooks that do not outlive their use."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager

from torch.utils.hooks import RemovableHandle


@contextmanager
def removing(handles: Iterable[RemovableHandle]) -> Iterator[None]:
    """Remove hooks at the end of the block, whatever happens in it."""
    with ExitStack() as stack:
        for handle in handles:
            stack.callback(handle.remove)
        yield
