"""A simulated device for torch, compiled at its first use and kept for the next (simulated.cpp says what it is)."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import torch
from torch.utils import backend_registration

SOURCE = Path(__file__).with_suffix(".cpp")
FOLDER = Path(__file__).parents[2] / "build" / "devices"
NAME, UNLIMITED = "simulated", 1 << 62


def compiled() -> Path:
    """The library of the device: one for each version of torch."""
    known = hashlib.sha256(SOURCE.read_bytes() + torch.__version__.encode()).hexdigest()[:16]
    library = FOLDER / f"{known}.so"
    if not library.exists():
        home = Path(torch.__file__).parent
        FOLDER.mkdir(parents=True, exist_ok=True)
        made = library.with_suffix(f".{os.getpid()}")
        compiler = os.environ.get("CXX") or shutil.which("c++") or "g++"
        command = [compiler, "-O1", "-std=c++20", "-shared", "-fPIC", SOURCE, "-o", made, f"-L{home / 'lib'}"]
        command += [f"-I{home / 'include'}", f"-I{home / 'include/torch/csrc/api/include'}", "-ltorch_cpu", "-lc10"]
        subprocess.run(command, check=True, timeout=600)
        made.replace(library)
    return library


@cache
def device() -> torch.device:
    """The device, which is known to torch from the first call on."""
    torch.ops.load_library(str(compiled()))
    backend_registration.rename_privateuse1_backend(NAME)
    own = torch.ops.simulated.generator
    module = SimpleNamespace(
        is_available=lambda: True,
        device_count=lambda: 1,
        current_device=lambda: 0,
        _is_in_bad_fork=lambda: False,
        manual_seed_all=lambda seed: own().manual_seed(seed),
        get_rng_state=lambda place: own().get_state(),
        set_rng_state=lambda state, place: own().set_state(state),
    )
    torch._register_device_module(NAME, module)  # type: ignore[no-untyped-call]
    backend_registration.generate_methods_for_privateuse1_backend()
    return torch.device(NAME, 0)


@contextmanager
def without_double() -> Iterator[None]:
    """In a block, the device has no float64, as Apple's."""
    torch.ops.simulated.wide(False)
    try:
        yield
    finally:
        torch.ops.simulated.wide(True)


def calls() -> int:
    """How many operations the device has carried out."""
    return int(torch.ops.simulated.calls())


def limit(room: int | None) -> None:
    """Leave the device so many bytes more than it has in use; None: all that there are."""
    torch.ops.simulated.limit(UNLIMITED if room is None else torch.ops.simulated.used() + room)
