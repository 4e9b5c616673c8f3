from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FREED = """
from pathlib import Path
import ctypes
from noworse.run.memory import trim
def resident():
    return int(Path("/proc/self/status").read_text().split("VmRSS:")[1].split()[0])
blocks = [bytearray(b"x" * 100_000) for _ in range(1000)]
last = bytearray(b"x" * 100_000)  # keeps the heap from shrinking by itself
before = resident()
del blocks
trim()
print(before - resident())
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="counts pages as Linux does")
def test_what_was_freed_is_given_back() -> None:
    done = subprocess.run([sys.executable, "-c", FREED], stdout=subprocess.PIPE, text=True, check=True)
    assert int(done.stdout) > 50_000  # of 100,000 kB


def test_tuning_needs_no_compiler() -> None:
    program = (
        "import sys, torch; from noworse.tune.adam import Adam; leaf = torch.ones(3); leaf.grad = leaf.clone();"
        "Adam([{'params': [leaf]}]).step(); sys.exit('torch._dynamo' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
