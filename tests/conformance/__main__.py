"""Run cases and write what becomes of them to docs/models.md: ``python -m tests.conformance [NAME OR GROUP ...]``."""

from __future__ import annotations

import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch

from tests.conformance.check import outcomes
from tests.conformance.page import PAGE, filled, read, told
from tests.conformance.registry import VERBS, Case, zoo

WRONG = dict.fromkeys(VERBS, "not yet right")


def row(case: Case) -> dict[str, str]:
    """The cells of a case; a failure is printed."""
    begin = time.process_time()
    try:
        with tempfile.TemporaryDirectory() as folder:
            cells = {verb: told(outcome) for verb, outcome in outcomes(case, Path(folder)).items()}
    except Exception as error:  # whatever it is, the other cases are wanted too
        found = f"{type(error).__name__}{place(error)}: {' '.join(str(error).split())[:300]}"
        print(f"{case.name}: {found} {case.pending and '(pending)'}", flush=True)
        return WRONG
    print(f"{case.name}: {time.process_time() - begin:.1f} s {case.pending and 'NO LONGER PENDING'}", flush=True)
    return WRONG if case.pending else cells


def place(error: Exception) -> str:
    """Where in the package an exception came from."""
    own = [frame for frame in traceback.extract_tb(error.__traceback__) if "/src/noworse/" in frame.filename]
    return f" at {own[-1].filename.rpartition('noworse/')[2]}:{own[-1].lineno}" if own else ""


def main(wanted: list[str]) -> None:
    torch.set_num_threads(1)  # more would wait for each other: the nets are tiny
    cases, rows = zoo(), read(PAGE.read_text())
    for name, case in cases.items():
        if not wanted or name in wanted or case.group in wanted:
            rows[name] = row(case)
    PAGE.write_text(filled(PAGE.read_text(), {name: rows.get(name, WRONG) for name in cases}, cases))


if __name__ == "__main__":
    main(sys.argv[1:])
