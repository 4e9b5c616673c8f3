"""Rows of a benchmark: printed as a table, stored as JSON, checked against their targets."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path


@dataclass(frozen=True)
class Row:
    """One measured value; ``target`` reads like ">= 24" or "<= 0.01", or is empty where the value is only reported."""

    name: str
    value: float
    unit: str
    target: str = ""
    section: str = ""  # of a benchmark that has several

    @property
    def ok(self) -> bool | None:
        """Whether the target is met; None where there is none."""
        if not self.target:
            return None
        relation, limit = self.target.split()
        return self.value >= float(limit) if relation == ">=" else self.value <= float(limit)


def show(rows: Sequence[Row]) -> None:
    """Print rows as aligned columns: name, value, unit, target, ok."""
    width = max((len(row.name) for row in rows), default=0)
    for row in rows:
        verdict = {True: "ok", False: "MISSED", None: ""}[row.ok]
        print(f"{row.name:<{width}}  {row.value:>14,.6g}  {row.unit:<12} {row.target:<10} {verdict}".rstrip())


def parser(description: str) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    found = argparse.ArgumentParser(description=description)
    found.add_argument("--quick", action="store_true", help="a few iterations: does it run, not how good is it")
    found.add_argument("--json", type=Path, help="store the rows in this file")
    found.add_argument("--check", action="store_true", help="exit with 1 when a row falls short of its target")
    return found


Section = Callable[[bool], list[Row]]  # of ``--quick``


def run_sections(sections: Mapping[str, Section], description: str) -> None:
    """A whole benchmark of sections, which ``--only`` chooses from; each is stored when it ends.

    With ``--only``, rows that the file holds from other sections stay there.
    """
    options_of = parser(description)
    options_of.add_argument("--only", nargs="+", choices=sorted(sections))
    options = options_of.parse_args()
    before = stored(options.json) if options.only and options.json else []
    rows: list[Row] = []
    for name in options.only or sections:
        rows += [replace(row, section=name) for row in available(name, sections[name], options.quick)]
        if options.json:
            store(merged(before, rows), options.json)
    show(rows)
    check(rows, options)


def stored(path: Path) -> list[Row]:
    """The rows of a file, none where there is no such file."""
    if not path.exists():
        return []
    rows = json.loads(path.read_text())
    return [Row(row["name"], row["value"], row["unit"], row["target"], row.get("section", "")) for row in rows]


def merged(before: Sequence[Row], rows: Sequence[Row]) -> list[Row]:
    """Rows of before in their order, replaced by rows of the same name, then the others.

    Of sections that were measured anew, nothing else stays: names may hold what was reached.
    """
    new, again = {row.name: row for row in rows}, {row.section for row in rows} - {""}
    kept = [new.pop(row.name, row) for row in before if row.name in new or row.section not in again]
    return [*kept, *new.values()]


def available(name: str, section: Section, quick: bool) -> list[Row]:
    """The rows of a section, none where its packages are absent."""
    from noworse.task.task import TaskUnavailable  # with torch, which other benchmarks measure without

    try:
        return section(quick)
    except TaskUnavailable as error:
        print(f"{name}: skipped, {error}", file=sys.stderr)
        return []


def finish(rows: Sequence[Row], options: argparse.Namespace) -> None:
    """Show and store the rows; end the program with 1 where ``--check`` finds one short of its target."""
    show(rows)
    if options.json:
        store(rows, options.json)
    check(rows, options)


def store(rows: Sequence[Row], path: Path) -> None:
    """Write the rows to a file."""
    found = [{**asdict(row), "ok": row.ok} for row in rows]
    for row in found:
        if not row["section"]:
            del row["section"]
    path.write_text(json.dumps(found, indent=1) + "\n")


def check(rows: Sequence[Row], options: argparse.Namespace) -> None:
    """End the program with 1 where ``--check`` finds a row short of its target."""
    if options.check and any(row.ok is False for row in rows):
        sys.exit(1)
