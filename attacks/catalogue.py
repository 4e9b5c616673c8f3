"""All attacks, in the order of the parts of a file that they are aimed at."""

from __future__ import annotations

from attacks import codebooks, groups, indices, outliers, streams
from attacks.base import REGISTERED, Attack

__all__ = ["ATTACKS", "Attack"]

_PARTS = (indices.__name__, streams.__name__, codebooks.__name__, outliers.__name__, groups.__name__)
ATTACKS = sorted(REGISTERED, key=lambda attack: _PARTS.index(attack.data.__module__))  # whichever was imported first
