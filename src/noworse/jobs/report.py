"""Reports: what the three verbs return, the verdict first of all; that of ``compress`` in full."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from noworse.errors import BadInput
from noworse.format import File
from noworse.format.source import atomic_file
from noworse.judge.verdict import Verdict
from noworse.task.target import Sized


class Judged:
    """A report with a ``verdict``."""

    verdict: Verdict

    @property
    def passed(self) -> bool:
        """Whether the result is no worse within the tolerance, or better."""
        return self.verdict.passed


@dataclass(frozen=True)
class Report(Sized, Judged):
    """The outcome of a compression: sizes in bytes, ``ratio`` = original size / file size, the verdict, seconds."""

    path: str
    size: int
    original_size: int
    verdict: Verdict
    seconds: float
    settings: dict[str, Any]
    folded: tuple[str, ...] = ()  # norms folded into their neighbours
    unused: tuple[str, ...] = ()  # parameters that the calibration data never reached: kept at a fixed coarse step
    spent: dict[str, float] = field(default_factory=dict)  # seconds of tuning in the net and in the grids
    products: dict[str, int] | None = None  # layers written as a product of two grids, and its rank; None: not tried
    families: dict[str, int] = field(default_factory=dict)  # where tried: layers by grid, flat or spatial product

    def save(self, path: str | Path) -> int:
        """Copy the file to ``path`` and return its bytes; BadInput where it is not there, or another one by now."""
        if not Path(self.path).is_file():
            raise BadInput(f"{self.path} is not there: expected the file of this report")
        content = Path(self.path).read_bytes()
        with File(content) as file:
            if file.verdict != self.verdict.record():
                raise BadInput(f"{self.path} holds another verdict: expected the file of this report")
        with atomic_file(path) as out:
            out.write(content)
        return len(content)

    def __str__(self) -> str:
        text = f"{self.path}: {self.size:,} bytes, {self.ratio:.2f} times smaller than {self.original_size:,}"
        text += f" ({self.seconds:.0f} s)\n{self.verdict}"
        if self.products is not None:
            ranks = ", ".join(f"{name} of rank {rank}" for name, rank in self.products.items())
            text += f"\nlow rank: {ranks or 'never better than a grid here'}"
            never = [family for family, layers in self.families.items() if not layers]
            text += f" (never best: {', '.join(never)})" if ranks and never else ""
        if self.unused:
            text += f"\nwithout a gradient on calib, kept at a fixed step: {', '.join(self.unused)}"
        return text
