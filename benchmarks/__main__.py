"""List the benchmarks: ``python -m benchmarks``."""

from __future__ import annotations

import ast
from pathlib import Path

for path in sorted((Path(__file__).parent / "suites").glob("*.py")):
    text = path.read_text()
    if "__main__" in text:
        first = (ast.get_docstring(ast.parse(text)) or "").splitlines()[0]
        print(f"python -m benchmarks.{path.stem:<18} {first}")
print(f"python -m benchmarks.{'publish':<18} The tables and pictures of docs/ and README.md from the stored results.")
