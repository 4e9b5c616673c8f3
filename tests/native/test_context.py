"""The context coder under AddressSanitizer and UndefinedBehaviorSanitizer, and with other optimisation."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("context.cpp")
HEADERS = Path(__file__).parents[2] / "src" / "noworse" / "codec"
SANITIZED = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def hash_of_blocks(program: Path, *flags: str) -> str:
    compiler = os.environ.get("CXX") or shutil.which("c++") or "g++"
    command = [compiler, "-std=c++17", "-Wall", "-Wextra", *flags, "-I", HEADERS, DRIVER, "-o", program]
    subprocess.run(command, check=True, timeout=300)
    found = subprocess.run([program, "1", "200"], capture_output=True, text=True, timeout=300)
    assert found.returncode == 0, found.stderr[-4000:]
    return found.stdout


@pytest.mark.slow
def test_no_slip_and_the_same_bytes_with_any_optimisation(tmp_path: Path) -> None:
    (tmp_path / "empty.cpp").write_text("int main() {}")
    try:
        check = ["c++", *SANITIZED, tmp_path / "empty.cpp", "-o", tmp_path / "empty"]
        subprocess.run(check, check=True, timeout=300)
    except (OSError, subprocess.CalledProcessError):
        if os.environ.get("CI"):
            raise
        pytest.skip("the compiler has no sanitizers")
    sanitized = hash_of_blocks(tmp_path / "sanitized", *SANITIZED)
    assert sanitized == hash_of_blocks(tmp_path / "fast", "-O3") == hash_of_blocks(tmp_path / "plain", "-O0")
