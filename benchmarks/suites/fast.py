"""Size, held-out loss and time of the preset ``fast``: rounding without training and without labels.

Rows and processes are those of ``benchmarks.l2``. Seconds are those of a whole ``compress``, the judging of the
original and of the decoded file included; the targets are meant for two idle cores.
"""

from __future__ import annotations

from benchmarks.harness import Suite, main
from benchmarks.suites.l2 import sections_of

SUITE = Suite("fast", __doc__, sections_of("fast"), quick=("lenet5", "resnet20", "vit_tiny"))

if __name__ == "__main__":
    main(SUITE)
