"""Names chosen by shell patterns, where each pattern has to match something."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from noworse.errors import BadInput

SUGGESTIONS = 3


def matching(patterns: Iterable[str], names: Sequence[str], what: str) -> list[str]:
    """Return those of ``names``, in their order, that match any pattern (``*`` matches dots too).

    BadInput for a pattern without a match; ``what`` says what chose ("keep") and of what ("tensor").
    """
    chosen: set[str] = set()
    for pattern in patterns:
        matches = [name for name in names if fnmatchcase(name, pattern)]
        if not matches:
            close = difflib.get_close_matches(pattern, names, SUGGESTIONS, 0.4) or list(names[:SUGGESTIONS])
            raise BadInput(f"{what} matches {pattern!r}: expected a name such as {', '.join(close)}")
        chosen.update(matches)
    return [name for name in names if name in chosen]
