"""How fast a compression is: what a weight costs in each iteration, what comes before tuning, and files.

Everything is a ratio or a time per weight, of rounds that take turns within one run. A section is one module
``speed_NAME.py`` beside this one.
"""

from __future__ import annotations

from benchmarks.harness import Section, Suite, main
from benchmarks.suites import speed_files, speed_kernels, speed_start

SECTIONS: dict[str, Section] = {
    "kernels": speed_kernels.per_weight,
    "iteration": speed_kernels.iteration,
    "start": speed_start.rows,
    "large": speed_start.large_rows,
    "files": speed_files.rows,
}
SUITE = Suite("speed", __doc__, SECTIONS)

if __name__ == "__main__":
    main(SUITE)
