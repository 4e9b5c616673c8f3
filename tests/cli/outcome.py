"""What a run of the command line ends with."""

from __future__ import annotations

import json
import subprocess
from typing import Any

Run = subprocess.CompletedProcess[str]
NUMPY_ALONE = "torch scipy rich safetensors"


def fails(found: Run, code: int, message: str) -> None:
    """The run ended with ``code``, nothing on standard output, and one line holding ``message``."""
    assert found.returncode == code, found.stderr
    assert "Traceback" not in found.stderr
    last = found.stderr.strip().splitlines()[-1]
    assert last.startswith("noworse: ")
    assert message in last
    assert found.stdout == ""


def single_object(found: Run) -> dict[str, Any]:
    assert found.stdout.count("\n") == 1
    value: dict[str, Any] = json.loads(found.stdout)
    return value
