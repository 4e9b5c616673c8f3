"""Sizes: what is asked for, a ratio, bytes, or bits per weight, and what a report says of them."""

import json
import re
from dataclasses import asdict
from typing import Any

from noworse.errors import BadInput

UNITS = {"b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
FORM = re.compile(r"\s*([0-9]*\.?[0-9]+(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Z]*)\s*")


class Sized:
    """Base of reports, dataclasses with the fields ``size`` and ``original_size`` in bytes."""

    size: int
    original_size: int

    @property
    def ratio(self) -> float:
        """Original bytes (parameters and buffers, ties once) over bytes of the file."""
        return self.original_size / self.size

    def to_json(self) -> str:
        """Return all fields and the ratio as one JSON object."""
        fields: Any = self
        return json.dumps({**asdict(fields), "ratio": self.ratio})


def parse_target(target: float | str, original_bytes: int, weights: int) -> int:
    """Return the file size in bytes that ``target`` asks for.

    A number or "20x" is a ratio to ``original_bytes``; "400KB", "1.5MiB" are bytes; "1.6 bits" is bits per weight, the
    whole file over ``weights``. Raises BadInput for anything else, or a size that is not below the original's.
    """
    match = FORM.fullmatch(str(target))
    if match is None or float(match[1]) <= 0:
        raise BadInput(f"target {target!r} is not understood: expected a ratio such as 20, '400KB' or '1.6 bits'")
    value, unit = float(match[1]), match[2].lower()
    if unit in ("", "x"):
        size = original_bytes / value
    elif unit in UNITS:
        size = value * UNITS[unit]
    elif unit in ("bit", "bits", "bpw"):
        size = value * weights / 8
    else:
        raise BadInput(f"target {target!r} has the unknown unit {match[2]!r}: expected x, B, KB, MB, KiB, MiB or bits")
    if not size < original_bytes:
        raise BadInput(f"target {target!r} means {size:.0f} bytes: expected less than the original's {original_bytes}")
    return int(size)
