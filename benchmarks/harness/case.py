"""A case in a process of its own, whose peak memory, threads and libraries are not those of other cases."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

PROGRAM = "from benchmarks.harness.case import main; main()"
UNAVAILABLE = 77  # exit code where the packages or data of a case are absent


class CaseFailed(Exception):
    """The process of a case ended with an error, which it has printed itself."""


def is_unavailable(error: Exception) -> bool:
    """Whether an error says that a task's packages or data are absent."""
    from noworse.task.task import TaskUnavailable  # brings torch along, which the coder is measured without

    return isinstance(error, TaskUnavailable)


def program(function: Callable[..., Any], *arguments: object) -> list[str]:
    """The arguments of a python that prints what a module's function returns."""
    module = function.__module__
    if module == "__main__":
        module = sys.modules["__main__"].__spec__.name  # type: ignore[union-attr]
    return ["-c", PROGRAM, module, function.__name__, json.dumps(arguments)]


def in_own_process(
    function: Callable[..., Any], *arguments: object, environment: Mapping[str, str] | None = None
) -> Any:
    """What a module's function returns in a new process; arguments and result can be written as JSON.

    TaskUnavailable where the function says so, CaseFailed where it fails otherwise.
    """
    words = [sys.executable, *program(function, *arguments)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, env={**os.environ, **(environment or {})})
    if done.returncode == UNAVAILABLE:
        from noworse.task.task import TaskUnavailable

        raise TaskUnavailable("its packages or data are absent")
    if done.returncode:
        raise CaseFailed(f"its process ended with {done.returncode}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Print what a function returns, both its arguments and that as JSON: the program of such a process."""
    module, function, arguments = sys.argv[1:]
    try:
        print(json.dumps(getattr(importlib.import_module(module), function)(*json.loads(arguments))))
    except Exception as error:
        if not is_unavailable(error):
            raise
        print(error, file=sys.stderr)
        sys.exit(UNAVAILABLE)
