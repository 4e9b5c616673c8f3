"""``python -m fuzz``: damaged files by the thousand through the reader; the same seed gives the same files.

``--forged``: files from a forger instead, through all readers and commands. Exit code 1 where a reader failed; each
failure is printed with the command that repeats it.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from fuzz.check import case, limit_memory, resident, timed
from fuzz.invent import invent
from fuzz.seeds import seeds

MOST_FAILURES = 10
WARM = 500  # cases, after which memory that is taken should be taken again


def main() -> int:
    """Run the cases asked for."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="damaged files through the reader")
    parser.add_argument("--cases", type=int, default=200_000, metavar="N", help="how many (200000)")
    parser.add_argument("--first", type=int, default=0, metavar="N", help="the number of the first one (0)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the files (0)")
    parser.add_argument("--forged", action="store_true", help="files made up from nothing, through all readers")
    parser.add_argument("--case", type=int, metavar="K", help="this one alone, without catching what it raises")
    parser.add_argument("--save", metavar="FILE", help="with --case: write the damaged file there as well")
    arguments = parser.parse_args()
    if arguments.forged:
        return forged(arguments)
    if arguments.case is None:
        return many(arguments.seed, arguments.cases, arguments.first)
    files = seeds()
    data, repaired = case(files, arguments.seed, arguments.case)
    if arguments.save:
        Path(arguments.save).write_bytes(data)
    print(f"{len(data)} bytes, checksums {'repaired' if repaired else 'not repaired'}: {data[:400]!r}")
    limit_memory(0)  # seeds are small: no case may take more than a small file
    print(timed(data, repaired, frozenset(file.data for file in files)))
    return 0


def many(seed: int, cases: int, first: int = 0) -> int:
    """Run so many cases from the first one on and print what became of them."""
    files = seeds()
    honest = frozenset(file.data for file in files)
    print(f"seed {seed}, {cases:,} cases on {', '.join(file.name for file in files)}", flush=True)
    limit_memory(0)  # seeds are small: no case may take more than a small file

    def one(number: int) -> str:
        data, repaired = case(files, seed, number)
        return f"{timed(data, repaired, honest)}, checksums {'' if repaired else 'not '}repaired"

    return run(one, range(first, first + cases), f"python -m fuzz --seed {seed}")


def forged(arguments: argparse.Namespace) -> int:
    """The same for files from the forger; with ``--case`` that one alone."""
    from fuzz.readers import read_all, warm_up

    seed, number = arguments.seed, arguments.case
    with tempfile.TemporaryDirectory() as folder:
        warm_up(Path(folder))

        def one(number: int) -> str:
            data = invent(random.Random(f"{seed}:{number}"))
            limit_memory(len(data))  # of one case: threads that come and go leave address space behind
            return read_all(data, Path(folder), number)

        if number is None:
            print(f"seed {seed}, {arguments.cases:,} forged files", flush=True)
            numbers = range(arguments.first, arguments.first + arguments.cases)
            command = f"python -m fuzz --forged --seed {seed}"
            return run(one, numbers, command)
        data = invent(random.Random(f"{seed}:{number}"))
        if arguments.save:
            Path(arguments.save).write_bytes(data)
        print(f"{len(data)} bytes: {data[:400]!r}")
        print(one(number))
    return 0


def run(one: Callable[[int], str], numbers: range, command: str) -> int:
    """Run numbered cases and print what became of them; 1 where one raised anything."""
    outcomes, failures, start, held = Counter[str](), 0, time.monotonic(), resident()
    for done, number in enumerate(numbers):
        if done == WARM:
            held = resident()
        try:
            outcomes[one(number)] += 1
        except Exception:  # whatever is no CorruptFile: the very thing that is looked for
            failures += 1
            print(f"FAILED: {command} --case {number}\n{traceback.format_exc()}", flush=True)
            if failures == MOST_FAILURES:
                break
        if done and done % max(10_000, len(numbers) // 100) == 0:
            print(f"{done:,} cases, {time.monotonic() - start:.0f} s, {failures} failures", file=sys.stderr, flush=True)
    print("; ".join(f"{count:,} {outcome}" for outcome, count in sorted(outcomes.items())))
    print(f"resident memory: {held:.1f} MiB at first, {resident():.1f} at the end")  # what leaks slowly shows here
    print(f"{failures} failures in {outcomes.total() + failures:,} cases, {time.monotonic() - start:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
