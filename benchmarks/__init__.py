"""What noworse is measured by: ``python -m benchmarks`` lists the benchmarks, ``python -m benchmarks.NAME`` runs one.

``harness`` runs, stores, checks and prints, ``suites`` say what is measured, ``results`` holds what was measured last,
``documents`` makes the tables and pictures of docs/ and README.md of that.
"""

from pathlib import Path

__path__.append(str(Path(__file__).parent / "suites"))  # so that ``python -m benchmarks.l2`` runs suites/l2.py
