"""A state dict that ``torch.save`` wrote: a pickle, which only ``torch.load(weights_only=True)`` may read."""

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from noworse.checkpoint.base import Checkpoint, header_of
from noworse.checkpoint.storage import dtype_name, import_torch, key, storage
from noworse.errors import BadInput
from noworse.format.limits import default_max_bytes
from noworse.format.source import open_regular

WRAPPERS = ("state_dict", "model_state_dict", "model", "module")  # keys of trainers, who put other things beside it


class TorchFile(Checkpoint):
    """A dict of tensors, or a dict whose entry "state_dict", "model" or the like is one; BadInput for anything else.

    The file is read at once: one that is mapped into memory ends the process when others cut it short.
    """

    def __init__(self, path: str | Path) -> None:
        self.paths = [Path(path)]
        state = _load(Path(path))
        inside = [state[key] for key in WRAPPERS if isinstance(state, Mapping) and isinstance(state.get(key), Mapping)]
        state = inside[0] if inside else state
        if not isinstance(state, Mapping):
            raise BadInput(f"{path} holds a {type(state).__name__}, expected a dict of tensors")
        for name, value in state.items():
            _check(str(path), name, value)
        self._tensors = dict(state)
        self.headers = {n: header_of(Path(path), n, dtype_name(t), t.shape) for n, t in self._tensors.items()}
        total, size = sum(header.nbytes for header in self.headers.values()), Path(path).stat().st_size
        if total > (most := default_max_bytes(size)):  # expanded ones have more elements than the file
            raise BadInput(f"{path}: tensors of {total} bytes in a file of {size}, expected at most {most}")

    def read(self, name: str) -> NDArray[Any]:
        """See ``Checkpoint.read``."""
        return storage(self._tensors[name]).copy()


def _check(path: str, name: Any, value: Any) -> None:
    if not isinstance(name, str) or not isinstance(value, import_torch().Tensor):
        shown = repr(name)[:80] if isinstance(name, (str, int)) else f"of a {type(name).__name__}"
        raise BadInput(f"{path}: entry {shown} is a {type(value).__name__}, expected tensors by name")
    try:
        key(name, value)
    except BadInput as error:
        raise BadInput(f"{path}: {error}") from error


def _load(path: Path) -> Any:
    """What is in the file."""
    torch = import_torch()
    open_regular(path).close()  # a missing file is an OSError, as for any other kind
    try:
        _check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickles, which are accepted or refused below
            return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, BadInput):
        raise
    except Exception as error:  # its parser raises whatever it stumbles over: IndexError, KeyError, struct.error, ...
        reason = " ".join(str(error).split())[:200]
        expected = "expected a state dict, as torch.save(model.state_dict(), path) writes one"
        raise BadInput(f"{path}: torch.load(weights_only=True) refuses it, {expected}: {reason}") from error


def _check_archive(path: Path) -> None:
    """BadInput for an archive whose entries take more memory than the file has bytes."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    total, size = sum(entry.file_size for entry in entries), path.stat().st_size
    if total > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise BadInput(
            f"{path}: {total} bytes packed into {size}, expected entries that are stored as torch writes them"
        )
