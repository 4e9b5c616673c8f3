"""The tests of this folder, in a process of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_all_of_this_folder() -> None:
    """Forty tests, and a device of torch that is compiled first."""
    words = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/devices"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
