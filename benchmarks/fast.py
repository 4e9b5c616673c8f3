"""Size, held-out loss and time of the preset ``fast``: rounding without training and without labels.

``python -m benchmarks.fast [--quick] [--json FILE] [--check] [--only NAME ...] [--folder work/fast] [--fresh]``

As ``benchmarks.l2``, whose rows and processes these are. Seconds are those of a whole ``compress``, the judging of the
original and of the decoded file included; the targets are meant for two idle cores.
"""

from __future__ import annotations

from benchmarks.cases import FAST
from benchmarks.l2 import measured
from benchmarks.table import finish


def main() -> None:
    found = measured("benchmarks.fast", __doc__.splitlines()[0], FAST)
    if found is not None:
        rows, _, options = found
        finish(rows, options)


if __name__ == "__main__":
    main()
