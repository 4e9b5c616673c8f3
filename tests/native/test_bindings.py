"""The module that users have, bindings included, built with the sanitizers: tests of the coder and the file format."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.sanitize
ROOT = Path(__file__).parents[2]
SANITIZE = "-O1 -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g"
# an editable install answers imports of the package before PYTHONPATH does
UNREDIRECTED = """import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "Redirecting" not in type(finder).__name__]
"""
TESTS = ["codec/test_rans.py", "codec/test_context.py", "codec/test_grids.py", "codec/test_misfits.py",
         "codec/test_tables.py", "representation/test_raw.py"]  # fmt: skip


def build(folder: Path) -> None:
    """Install the package, without what it depends on, in a folder."""
    given = {**os.environ, "CXXFLAGS": SANITIZE, "LDFLAGS": SANITIZE}
    how = ["--no-deps", "--target", str(folder), "-C", "cmake.build-type=Debug", "-C", f"build-dir={folder}/build"]
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *how, str(ROOT)]
    subprocess.run(install, env=given, check=True, timeout=900)


def test_the_bindings_do_nothing_undefined(compile_native: Callable[..., Path], tmp_path: Path) -> None:
    names = ("libasan.so", "libstdc++.so.6")  # the latter so that the former finds what it stands before
    finds = [["c++", f"-print-file-name={name}"] for name in names] if shutil.which("c++") else []
    libraries = [subprocess.run(find, capture_output=True, text=True).stdout.strip() for find in finds]
    if not libraries or not all(Path(library).is_absolute() for library in libraries):
        pytest.skip("the compiler has no library of AddressSanitizer that could be loaded first")
    build(tmp_path)
    (tmp_path / "sitecustomize.py").write_text(UNREDIRECTED)
    given = {
        **os.environ,
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",
        "PYTHONPATH": str(tmp_path),
    }
    where = "import noworse.codec._native as n; print(n.__file__)"
    found = subprocess.run([sys.executable, "-c", where], env=given, cwd=tmp_path, capture_output=True, text=True)
    assert found.stdout.startswith(str(tmp_path)), found.stderr
    tests = [str(ROOT / "tests" / name) for name in TESTS]
    options = ["-q", "-s", "-x", "-m", "not slow", "-p", "no:cacheprovider", "-k", "not kib and not time"]
    run = [sys.executable, "-m", "pytest", *options, *tests]
    found = subprocess.run(run, env=given, cwd=ROOT, capture_output=True, text=True, timeout=1800)
    assert found.returncode == 0, (found.stdout + found.stderr)[-6000:]
