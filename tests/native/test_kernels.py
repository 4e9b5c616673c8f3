"""The kernels of tuning compiled with sanitizers, and as they are built: all instruction sets, several threads."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

BUILDS = {
    "addresses": (),
    "threads": ("-O1", "-g", "-fsanitize=thread"),
    "as built": ("-O3", "-fno-trapping-math", "-Werror"),
}


@pytest.mark.parametrize("flags", BUILDS.values(), ids=BUILDS)
def test_random_weights_on_all_instruction_sets(compile_native: Callable[..., Path], flags: tuple[str, ...]) -> None:
    found = subprocess.run([compile_native("kernels.cpp", *flags), "1", "60"], capture_output=True, text=True)
    assert (found.returncode, found.stdout) == (0, "60 rounds\n"), found.stderr[-4000:]
