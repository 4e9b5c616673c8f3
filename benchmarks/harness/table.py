"""Markdown tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from benchmarks.harness.row import Rows


def markdown(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table, or nothing where it has no lines."""
    body = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([f"| {' | '.join(head)} |", "|" + "---|" * len(head), *body]) if body else ""


def all_rows(rows: Rows) -> str:
    """Every row as it is."""
    met = {True: "yes", False: "**no**", None: ""}
    lines = ([row.name, f"{row.value:.6g}", row.unit, row.target, met[row.ok]] for row in rows)
    return markdown(["row", "value", "unit", "target", "met"], lines)
