"""What every benchmark is run, stored, checked and shown by."""

from benchmarks.harness.row import Row
from benchmarks.harness.run import Run
from benchmarks.harness.suite import Section, Suite, main
from benchmarks.harness.timing import rounds

__all__ = ["Row", "Run", "Section", "Suite", "main", "rounds"]
