"""``python -m fuzz``: damaged files by the thousand through the reader; the same seed gives the same files.

Exit code 1 where the reader failed; each failure is printed with the command that repeats it.
"""

from __future__ import annotations

import argparse
import sys
import time
import traceback
from collections import Counter
from pathlib import Path

from fuzz.check import case, limit_memory, timed
from fuzz.seeds import seeds

MOST_FAILURES = 10


def main() -> int:
    """Run the cases asked for."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description="damaged files through the reader")
    parser.add_argument("--cases", type=int, default=200_000, metavar="N", help="how many (200000)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the mutations (0)")
    parser.add_argument("--case", type=int, metavar="K", help="this one alone, without catching what it raises")
    parser.add_argument("--save", metavar="FILE", help="with --case: write the damaged file there as well")
    arguments = parser.parse_args()
    if arguments.case is None:
        return many(arguments.seed, arguments.cases)
    files = seeds()
    data, repaired = case(files, arguments.seed, arguments.case)
    if arguments.save:
        Path(arguments.save).write_bytes(data)
    print(f"{len(data)} bytes, checksums {'repaired' if repaired else 'not repaired'}: {data[:400]!r}")
    limit_memory()
    print(timed(data, repaired, frozenset(file.data for file in files)))
    return 0


def many(seed: int, cases: int) -> int:
    """Run cases 0, 1, .. and print what became of them."""
    files = seeds()
    honest = frozenset(file.data for file in files)
    print(f"seed {seed}, {cases:,} cases on {', '.join(file.name for file in files)}", flush=True)
    limit_memory()
    outcomes, failures, start = Counter[str](), 0, time.monotonic()
    for number in range(cases):
        data, repaired = case(files, seed, number)
        try:
            outcomes[f"{timed(data, repaired, honest)}, checksums {'' if repaired else 'not '}repaired"] += 1
        except Exception:  # whatever is no CorruptFile: the very thing that is looked for
            failures += 1
            print(f"FAILED: python -m fuzz --seed {seed} --case {number}\n{traceback.format_exc()}", flush=True)
            if failures == MOST_FAILURES:
                break
        if number and number % max(10_000, cases // 100) == 0:
            print(
                f"{number:,} cases, {time.monotonic() - start:.0f} s, {failures} failures", file=sys.stderr, flush=True
            )
    print("; ".join(f"{count:,} {outcome}" for outcome, count in sorted(outcomes.items())))
    print(f"{failures} failures in {outcomes.total() + failures:,} cases, {time.monotonic() - start:.0f} s")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
