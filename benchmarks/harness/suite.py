"""A benchmark as a whole: its command line, its sections one after the other, its rows shown, stored and checked."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

from benchmarks.harness.case import CaseFailed, is_unavailable
from benchmarks.harness.row import RESULTS, Row, merged, read, text_of, write
from benchmarks.harness.run import Run

QUICK_SECONDS = 100  # after which a quick run is cut off: two minutes with start and end
Section = Callable[[Run], Iterable[Row]]


class OutOfTime(BaseException):
    """A quick run has taken as long as it may."""


@dataclass(frozen=True)
class Suite:
    """What a benchmark measures, by sections; ``quick`` names those of a quick run, all where it names none."""

    name: str
    about: str  # the docstring of its module
    sections: Mapping[str, Section]
    quick: Sequence[str] = ()
    arguments: Callable[[argparse.ArgumentParser], object] | None = None  # adds options of its own


def parser_of(suite: Suite) -> argparse.ArgumentParser:
    """The options that every benchmark has, and those of this one."""
    found = argparse.ArgumentParser(
        prog=f"python -m benchmarks.{suite.name}",
        description=suite.about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--only", nargs="+", choices=sorted(suite.sections), metavar="SECTION", help="these sections")
    found.add_argument("--quick", action="store_true", help="two minutes at most: does it run, not how good is it")
    found.add_argument("--check", action="store_true", help="exit with 1 when a row falls short of its target")
    found.add_argument("--show", action="store_true", help="measure nothing, print the stored rows")
    stored = RESULTS / f"{suite.name}.json"
    found.add_argument("--json", type=Path, nargs="?", const=stored, help=f"store rows here, or in {stored.name}")
    found.add_argument("--folder", type=Path, default=Path("work") / suite.name, help="results of cases (%(default)s)")
    found.add_argument("--fresh", action="store_true", help="ignore results of cases of earlier runs")
    found.add_argument("--workers", type=int, default=1, help="cases at a time, where they may (%(default)s)")
    if suite.arguments:
        suite.arguments(found)
    return found


def main(suite: Suite, arguments: Sequence[str] | None = None) -> None:
    """Run a benchmark from the command line. Exit code 1: a section failed, or ``--check`` saw a row fall short."""
    parser = parser_of(suite)
    options = parser.parse_args(arguments)
    stored = RESULTS / f"{suite.name}.json"
    if options.quick and options.json == stored:
        parser.error("--quick does not replace stored results: name another file for --json")
    failed: list[str] = []
    if options.show:
        rows = [row for row in read(options.json or stored) if not options.only or row.section in options.only]
    else:
        rows, failed = measure(suite, options)
    if rows:
        print(text_of(rows))
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")
    if options.check:
        check(rows, {row.name for row in read(stored) if row.ok is False})


def measure(suite: Suite, options: argparse.Namespace) -> tuple[list[Row], list[str]]:
    """The rows of the chosen sections, stored after each, and the names of sections that failed.

    Rows that the file holds of other sections, not chosen or not to be had here, stay there.
    """
    options.folder.mkdir(parents=True, exist_ok=True)
    run = Run(options.quick, options.folder, options.fresh, 1 if options.quick else options.workers, options)
    before = [row for row in read(options.json) if row.section in suite.sections] if options.json else []
    rows: dict[str, Row] = {}
    failed: list[str] = []
    with time_limit(QUICK_SECONDS if options.quick else 0):
        for name in options.only or (options.quick and suite.quick) or suite.sections:
            try:
                for row in suite.sections[name](run):
                    rows[row.name] = replace(row, section=name)
            except CaseFailed as error:
                failed.append(name)
                print(f"{name}: {error}", file=sys.stderr)
            except Exception as error:
                if not is_unavailable(error):
                    raise
                print(f"{name}: skipped, {error}", file=sys.stderr)
            if options.json:
                write(merged(before, list(rows.values())), options.json)
    return list(rows.values()), failed


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """End what is inside after so many seconds, wherever it is then; 0 sets no limit."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except OutOfTime:
        print(f"stopped after {seconds:g} seconds, as quick runs are", file=sys.stderr)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check(rows: Sequence[Row], before: set[str]) -> None:
    """End the program with 1 where a row falls short of its target; say how many did not so when last stored."""
    short = [row.name for row in rows if row.ok is False]
    count = sum(row.ok is not None for row in rows)
    new = [name for name in short if name not in before]
    print(f"{len(short)} of {count} rows with a target fall short of it, {len(new)} of them only now", file=sys.stderr)
    for name in new:
        print(f"  {name}", file=sys.stderr)
    if short:
        sys.exit(1)
