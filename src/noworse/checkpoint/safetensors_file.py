"""One safetensors file, read without torch.

The library opens the file and checks its header (lengths, overlaps, holes). The elements are then read at their
offsets, since numpy has no bfloat16 and no float8 for the library to return.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.checkpoint.base import FROM_SAFETENSORS, Checkpoint, Header, header_of
from noworse.errors import BadInput
from noworse.format.source import open_regular
from noworse.representation import find_dtype

LENGTH_BYTES = 8  # of the header's length, in front of it


class SafetensorsFile(Checkpoint):
    """Tensors in the order of their data; BadInput for a file that safetensors refuses or a dtype unknown here."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self.paths = [self._path]
        _validate(self._path)
        with self._path.open("rb") as file:
            length = int.from_bytes(file.read(LENGTH_BYTES), "little")
            entries: dict[str, Any] = json.loads(file.read(length))
        self.metadata = entries.pop("__metadata__", None) or {}
        order = sorted(entries, key=lambda name: (entries[name]["data_offsets"], name))
        self._starts = {name: LENGTH_BYTES + length + int(entries[name]["data_offsets"][0]) for name in order}
        self.headers = {name: self._header(name, entries[name]) for name in order}

    def _header(self, name: str, entry: dict[str, Any]) -> Header:
        dtype = FROM_SAFETENSORS.get(entry["dtype"])
        if dtype is None:
            known = ", ".join(FROM_SAFETENSORS)
            raise BadInput(f"{self._path}: tensor {name!r} has dtype {entry['dtype']}, expected one of {known}")
        return header_of(self._path, name, dtype, entry["shape"])

    def read(self, name: str) -> NDArray[Any]:
        """See ``Checkpoint.read``; BadInput where the file has become shorter."""
        header = self.headers[name]
        out = np.empty(header.shape, find_dtype(header.dtype).storage)
        try:
            with self._path.open("rb") as file:
                file.seek(self._starts[name])
                count = file.readinto(out.reshape(-1).view(np.uint8).data) if out.size else 0
        except OSError as error:  # while another file is being written: it is to be told from that one's errors
            raise BadInput(f"cannot read {self._path}: {error.strerror or error}") from error
        if count != out.nbytes:
            raise BadInput(f"{self._path}: {count} bytes of {name!r}, expected {out.nbytes}: it is truncated")
        return out


def _validate(path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    open_regular(path).close()  # a missing file is an OSError that names it, as for any other kind
    try:
        with safe_open(path, framework="numpy"):  # type: ignore[no-untyped-call, unused-ignore]
            pass
    except SafetensorError as error:
        raise BadInput(f"{path} is no safetensors file: {error}") from error
