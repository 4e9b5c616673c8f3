"""The main job from end to end, as a user would type it: ``python -m zoo.demo [NAME] [--target 24]``."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
NOT_PASSED = 3  # exit code of a verification whose verdict is a bad one: that is a result too


def run(*words: str) -> None:
    """Print a ``noworse`` command and run it; ends the program with its exit code where it fails."""
    print(f"\n$ noworse {shlex.join(words)}", flush=True)
    code = subprocess.run([sys.executable, "-m", "noworse", *words]).returncode
    if code not in (0, NOT_PASSED):
        sys.exit(code)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", default="resnet20")
    parser.add_argument("--target", default="24")
    parser.add_argument("--tolerance", default="1%", help="nats, or per cent of the original's mean loss")
    parser.add_argument("--iterations", default="600")
    parser.add_argument("--folder", type=Path, default=Path("work"))
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    task = f"{HERE / 'fashion_mnist.py'}:{options.name}"
    file = str(options.folder / f"{options.name}.nwt")
    Path(file).unlink(missing_ok=True)
    limit = ["--tolerance", options.tolerance]
    run("compress", task, "--target", options.target, *limit, "--iterations", options.iterations, "-o", file)
    if not Path(file).exists():  # the tolerance was not met: the last line says by how much
        sys.exit(NOT_PASSED)
    run("inspect", file)
    run("verify", task, file, *limit)
    run("decompress", file, "-o", str(options.folder / f"{options.name}.safetensors"))


if __name__ == "__main__":
    main()
