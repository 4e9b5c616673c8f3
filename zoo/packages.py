"""Find the optional packages whose files the pretrained tasks read, without importing or running them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from noworse.task.task import TaskUnavailable

REQUIREMENTS = Path(__file__).with_name("requirements-pretrained.txt")


def package_folder(name: str) -> Path:
    """Where the package ``name`` is installed; ``TaskUnavailable`` says how to install it where it is missing."""
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise TaskUnavailable(
            f"the package {name} is not installed: this task needs `pip install transformers pillow` "
            f"and `pip install --no-deps -r {REQUIREMENTS}`"
        )
    return Path(spec.submodule_search_locations[0])
