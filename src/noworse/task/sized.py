"""What every report of a compression has: two sizes, their ratio, and a form in JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass


class Sized:
    """For dataclasses with the fields ``size`` and ``original_size``, in bytes."""

    size: int
    original_size: int

    @property
    def ratio(self) -> float:
        """Original bytes (parameters and buffers, ties once) over bytes of the file."""
        return self.original_size / self.size

    def to_json(self) -> str:
        """The report as one JSON object."""
        assert is_dataclass(self)
        return json.dumps({**asdict(self), "ratio": self.ratio})
