"""The device of these tests: a simulated one, or a real one that NOWORSE_DEVICE names (make test-gpu)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from noworse.checkpoint.storage import usable_device
from noworse.errors import BadInput
from tests.devices import simulated

REAL = os.environ.get("NOWORSE_DEVICE")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Beside others, leave these to test_apart.py: torch learns of a device before its first backward, and for good."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    beside = len(here) < len(items)
    out = [item for item in here if (item.path.name == "test_apart.py") != beside]
    config.hook.pytest_deselected(items=out)
    items[:] = [item for item in items if item not in out]


@pytest.fixture(scope="session")
def device() -> torch.device:
    """A device that is not the processor."""
    if REAL is None:
        return simulated.device()
    try:
        return usable_device(REAL)  # type: ignore[no-any-return]
    except BadInput as error:
        pytest.skip(f"nothing is tested on a real device: {error}")


@pytest.fixture
def narrow(device: torch.device) -> Iterator[torch.device]:
    """The simulated device without float64."""
    if REAL is not None:
        pytest.skip("a real device has float64 or not")
    with simulated.without_double():
        yield device
