"""The native coder compiled on its own, with the sanitizers of addresses and undefined behaviour."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

HERE = Path(__file__).parent
HEADERS = HERE.parents[1] / "src" / "noworse" / "codec"
FLAGS = ["-std=c++17", "-Wall", "-Wextra", "-pthread", "-ffp-contract=off"]
SANITIZED = ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
SLIP = "int main(int n, char** v) { int a[2] = {n, n}; return v[0] ? a[n + 1] : 0; }"

Compile = Callable[..., Path]


@pytest.fixture(scope="session")
def compile_native(tmp_path_factory: pytest.TempPathFactory) -> Compile:
    """Compile a source beside this file, with sanitizers unless flags are given; skips where there are none."""
    folder = tmp_path_factory.mktemp("native")

    def compile_native(source: str | Path, *flags: str, compiler: str | None = None) -> Path:
        program = folder / f"{Path(source).stem}{''.join(flags)}{compiler or ''}"
        compiler = compiler or os.environ.get("CXX") or shutil.which("c++") or "g++"
        command = [compiler, *FLAGS, *(flags or SANITIZED), "-I", HEADERS, HERE / source, "-o", program]
        subprocess.run(command, check=True, timeout=900)
        return program

    (folder / "slip.cpp").write_text(SLIP)
    try:
        slip = compile_native(folder / "slip.cpp")
    except (OSError, subprocess.CalledProcessError):
        if os.environ.get("CI"):
            raise
        pytest.skip("the compiler has no sanitizers")
    found = subprocess.run([slip], capture_output=True, text=True)
    assert found.returncode != 0, "the sanitizers overlook a slip"
    return compile_native
