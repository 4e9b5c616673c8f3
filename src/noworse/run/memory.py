"""Freed memory goes back to the operating system between the phases of a compression, where that can be asked for."""

from __future__ import annotations

import ctypes
import sys


def trim() -> None:
    """Give freed memory back to the system: glibc keeps blocks below a growing threshold (elsewhere: nothing)."""
    if sys.platform == "linux":
        give_back = getattr(ctypes.CDLL(None), "malloc_trim", None)  # other C libraries have no such function
        if give_back is not None:
            give_back(0)
