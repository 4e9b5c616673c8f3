"""Memory for many arrays at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

BLOCK = 1 << 25  # bytes
PAGE = 1 << 21  # bytes of a huge page, where blocks begin
LINE = 16  # elements: every array begins on a cache line


class Arena:
    """Hands out float32 arrays cut from common blocks of about 32 MiB, of which the smallest array keeps the whole.

    Large blocks get huge pages (numpy asks for them), so that the system clears memory in far fewer steps. For readers
    who want all tensors of a file: those who may keep a single one should not get it from here.
    """

    def __init__(self, total: int) -> None:
        self._left = total  # elements still to be asked for, padding not counted
        self._block = np.empty(0, np.float32)

    def take(self, size: int) -> NDArray[np.float32]:
        """An array (size,) that holds anything."""
        if size > len(self._block):
            wanted = 4 * max(size, min(self._left + self._left // 8, BLOCK // 4))
            memory = np.empty(-(-wanted // PAGE) * PAGE + PAGE, np.uint8)  # the pages around stay untouched
            self._block = memory[-memory.ctypes.data % PAGE :][: -(-wanted // PAGE) * PAGE].view(np.float32)
        found, self._block = self._block[:size], self._block[-(-size // LINE) * LINE :]
        self._left -= size
        return found
