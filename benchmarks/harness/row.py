"""Rows of a benchmark: values with targets, printed as a table, stored as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

RESULTS = Path(__file__).parent.parent / "results"
Values = dict[str, float]  # of rows, by name


@dataclass(frozen=True)
class Row:
    """One measured value; ``target`` reads like ">= 24" or "<= 0.01", or is empty where the value is only reported."""

    name: str
    value: float
    unit: str
    target: str = ""
    section: str = ""  # of its benchmark; set by the harness

    @property
    def ok(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if not self.target:
            return None
        relation, limit = self.target.split()
        return self.value >= float(limit) if relation == ">=" else self.value <= float(limit)


Rows = Sequence[Row]


def text_of(rows: Rows) -> str:
    """Rows as aligned columns: name, value, unit, target, and whether it is met."""
    width = max((len(row.name) for row in rows), default=0)
    verdicts = {True: "ok", False: "MISSED", None: ""}
    return "\n".join(
        f"{row.name:<{width}}  {row.value:>14,.6g}  {row.unit:<12} {row.target:<10} {verdicts[row.ok]}".rstrip()
        for row in rows
    )


def read(path: Path) -> list[Row]:
    """The rows of a file, none where there is no such file."""
    stored = json.loads(path.read_text()) if path.exists() else []
    return [Row(**{key: value for key, value in row.items() if key != "ok"}) for row in stored]


def write(rows: Rows, path: Path) -> None:
    """Store rows in a file, a line each."""
    lines = ",\n".join(json.dumps({**asdict(row), "ok": row.ok}) for row in rows)
    path.write_text(f"[\n{lines}\n]\n")


def stored(name: str) -> list[Row]:
    """The stored rows of the benchmark of this name."""
    return read(RESULTS / f"{name}.json")


def values_of(rows: Rows) -> Values:
    """The values of rows, by name."""
    return {row.name: row.value for row in rows}


def merged(before: Rows, rows: Rows) -> list[Row]:
    """The rows of before in their order, replaced by those of the same name, then the others.

    Of sections that were measured anew, nothing else stays: names may hold what was reached.
    """
    new, again = {row.name: row for row in rows}, {row.section for row in rows}
    kept = [new.pop(row.name, row) for row in before if row.name in new or row.section not in again]
    return [*kept, *new.values()]
