"""All attacks, in the order of the parts of a file that they are aimed at."""

from __future__ import annotations

from attacks import indices, streams  # noqa: F401  (importing them registers their attacks)
from attacks.base import ATTACKS, Attack

__all__ = ["ATTACKS", "Attack"]
