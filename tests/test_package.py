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


FIRST = """
import importlib, os, pkgutil, sys
import torch, numpy, scipy.optimize, scipy.special
import noworse
names = [m.name for m in pkgutil.walk_packages(noworse.__path__, "noworse.", onerror=lambda name: None)]
failed = []
for name in names:
    if name.endswith("__main__") or any(part in name for part in (".onnx", "_native")):
        continue
    child = os.fork()
    if not child:
        for loaded in [loaded for loaded in sys.modules if loaded.startswith("noworse.")]:
            if "_native" not in loaded:
                del sys.modules[loaded]
        try:
            importlib.import_module(name)
        except BaseException as error:
            print(name, error, flush=True)
            os._exit(1)
        os._exit(0)
    failed += [name] * (os.waitpid(child, 0)[1] != 0)
assert len(names) > 100 and not failed, failed
"""


def test_every_module_can_be_imported_first() -> None:
    """In a process that has none of the others, so that no circle of imports is hidden by the order of a test run."""
    subprocess.run([sys.executable, "-c", FIRST], check=True, timeout=300)
