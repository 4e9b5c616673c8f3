"""A state dict that ``torch.save`` wrote: a pickle, which only ``torch.load(weights_only=True)`` may read."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from noworse.checkpoint.base import Checkpoint, Header
from noworse.checkpoint.storage import dtype_name, import_torch, key, storage
from noworse.errors import BadInput

WRAPPER = "state_dict"  # the key under which trainers put the tensors beside other things


class TorchFile(Checkpoint):
    """A dict of tensors, or a dict whose entry "state_dict" is one; BadInput for anything else."""

    def __init__(self, path: str | Path) -> None:
        self.paths = [Path(path)]
        state = _load(Path(path))
        if isinstance(state, Mapping) and isinstance(state.get(WRAPPER), Mapping):
            state = state[WRAPPER]
        if not isinstance(state, Mapping):
            raise BadInput(f"{path} holds a {type(state).__name__}, expected a dict of tensors")
        for name, value in state.items():
            _check(str(path), name, value)
        self._tensors = dict(state)
        self.headers = {name: Header(dtype_name(t), tuple(t.shape)) for name, t in self._tensors.items()}

    def read(self, name: str) -> NDArray[Any]:
        """See ``Checkpoint.read``."""
        return storage(self._tensors[name]).copy()


def _check(path: str, name: Any, value: Any) -> None:
    if not isinstance(name, str) or not isinstance(value, import_torch().Tensor):
        raise BadInput(f"{path}: entry {name!r} is a {type(value).__name__}, expected tensors by name")
    try:
        key(name, value)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def _load(path: Path) -> Any:
    """What is in the file; tensors stay on disk until they are read, where the format allows it."""
    torch = import_torch()
    with path.open("rb"):  # a missing file is an OSError, as for any other kind
        pass
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles, which are accepted or refused below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except OSError:
        raise
    except Exception as error:  # its parser raises whatever it stumbles over: IndexError, KeyError, struct.error, ...
        reason = " ".join(str(error).split())[:200]
        raise BadInput(f"{path}: torch.load(weights_only=True) refuses it: {reason}") from error
