"""The context coder under AddressSanitizer and UndefinedBehaviorSanitizer, and with other optimisation."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.sanitize


def hash_of_blocks(program: Path) -> str:
    found = subprocess.run([program, "1", "200"], capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr[-4000:]
    return found.stdout


def test_no_slip_and_the_same_bytes_with_any_optimisation(compile_native: Callable[..., Path]) -> None:
    sanitized, fast, plain = (compile_native("context.cpp", *flags) for flags in ([], ["-O3"], ["-O0"]))
    assert hash_of_blocks(sanitized) == hash_of_blocks(fast) == hash_of_blocks(plain)
