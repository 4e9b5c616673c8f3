"""docs/models.md: what becomes of each case, in tables that ``python -m tests.conformance`` writes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tests.conformance.check import outcomes
from tests.conformance.registry import VERBS, Case, zoo

PAGE = Path(__file__).parents[2] / "docs" / "models.md"
PART = re.compile(r"(<!-- models: (\w+), written by python -m tests\.conformance -->\n).*?<!-- end -->", re.DOTALL)
HEAD = f"| model | {' | '.join(VERBS)} |\n" + "|---" * 5 + "|\n"
REFUSED = "refused, "
# paths, lists, numbers in brackets, and names between quotes
VARIES = re.compile(r"/[^\s:]+|\{.*\}|\[.*\]|\([^()]*\d[^()]*\)|'[^']*'(?:, '[^']*')*")
Rows = dict[str, dict[str, str]]  # by name of the case and verb


def told(outcome: str) -> str:
    """What a cell stands for: of a sentence without the names and numbers in it."""
    if not outcome.startswith("refused: "):
        return outcome
    plain = VARIES.sub("…", outcome.removeprefix("refused: "))
    return REFUSED + re.sub(r"\d[\d.,]*", "…", plain).replace("|", "/").strip()


def read(text: str) -> Rows:
    """The rows of a page, with its sentences in place of their numbers."""
    sentences = dict(re.findall(r"^\| (\d+) \| (.*) \|$", text, re.M))
    rows: Rows = {}
    for line in re.findall(r"^\| (.*) \|$", text, re.M):
        name, *cells = line.split(" | ")
        if len(cells) == len(VERBS) and name != "model":
            whole = [re.sub(r"^refused (\d+)$", lambda m: REFUSED + sentences[m[1]], cell) for cell in cells]
            rows[name] = dict(zip(VERBS, whole, strict=True))
    return rows


def filled(text: str, rows: Rows, cases: Mapping[str, Case]) -> str:
    """A page with its tables made anew."""
    cells = {cell for row in rows.values() for cell in row.values() if cell.startswith(REFUSED)}
    numbers = {cell: number for number, cell in enumerate(sorted(cells), 1)}

    def table(part: re.Match[str]) -> str:
        if part[2] == "refused":
            body = "| | sentence |\n|---|---|\n"
            body += "".join(f"| {number} | {cell.removeprefix(REFUSED)} |\n" for cell, number in numbers.items())
        else:
            body = HEAD
            for name in (name for name in rows if cases[name].group == part[2]):
                shown = [f"refused {numbers[cell]}" if cell in numbers else cell for cell in rows[name].values()]
                body += f"| {' | '.join([name, *shown])} |\n"
        return part[1] + body + "<!-- end -->"

    return PART.sub(table, text)


def holds(name: str, folder: Path) -> None:
    """Every verb is right about a case or refuses it as is listed, and the page says what becomes of it."""
    case = zoo()[name]
    found = {verb: told(outcome) for verb, outcome in outcomes(case, folder).items()}
    assert read(PAGE.read_text()).get(name) == found, f"run python -m tests.conformance {name!r}"
