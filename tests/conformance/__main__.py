"""Run cases and write what becomes of them to docs/models.md: ``python -m tests.conformance [NAME OR GROUP ...]``."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

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
        own = traceback_of(error)
        print(
            f"{case.name}: {type(error).__name__}{own}: {str(error)[:300]} {case.pending and '(pending)'}", flush=True
        )
        return WRONG
    print(f"{case.name}: {time.process_time() - begin:.1f} s {case.pending and 'NO LONGER PENDING'}", flush=True)
    return WRONG if case.pending else cells


def traceback_of(error: Exception) -> str:
    """The last place in the package that an exception came through."""
    places, step = [""], error.__traceback__
    while step is not None:
        code, step, line = step.tb_frame.f_code, step.tb_next, step.tb_lineno
        places += (
            [f" at {code.co_filename.rpartition('noworse/')[2]}:{line}"] if "/src/noworse/" in code.co_filename else []
        )
    return places[-1]


def main(wanted: list[str]) -> None:
    cases, rows = zoo(), read(PAGE.read_text())
    for name, case in cases.items():
        if name not in rows or not wanted or name in wanted or case.group in wanted:
            rows[name] = row(case)
    PAGE.write_text(filled(PAGE.read_text(), {name: rows[name] for name in cases}, cases))


if __name__ == "__main__":
    main(sys.argv[1:])
