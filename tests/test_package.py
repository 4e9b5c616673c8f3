"""The public names, in whatever order things are imported."""

from __future__ import annotations

import subprocess
import sys

import pytest

import noworse

CHECK = """
import types
import noworse.io, noworse.judge.verdict
from noworse import compress, compress_task, load_model, verify
assert all(isinstance(name, types.FunctionType) for name in (compress, compress_task, load_model, verify))
import noworse.judge.verify, noworse.jobs.compress
from noworse.judge.verify import judge
assert noworse.verify is verify and noworse.compress is compress
"""


def test_functions_are_not_hidden_by_submodules_of_the_same_name() -> None:
    subprocess.run([sys.executable, "-c", CHECK], check=True, timeout=120)


def test_every_name_of_the_package_exists() -> None:
    assert {name for name in noworse.__all__ if getattr(noworse, name).__doc__} == set(noworse.__all__)
    with pytest.raises(AttributeError, match="no attribute 'compres'"):
        _ = noworse.compres
