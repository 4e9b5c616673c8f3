"""The kernels of tuning compiled with AddressSanitizer and UndefinedBehaviorSanitizer, on every instruction set."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.mark.parametrize("flags", [(), ("-O3", "-fno-trapping-math", "-Werror")], ids=["sanitized", "as built"])
def test_random_weights_on_all_instruction_sets(compile_native: Callable[..., Path], flags: tuple[str, ...]) -> None:
    found = subprocess.run([compile_native("kernels.cpp", *flags), "1", "400"], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "400 rounds\n"), found.stderr[-4000:]
