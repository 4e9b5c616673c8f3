"""The file of a job: made beside its name, and moved there only when it passed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from noworse.errors import BadInput
from noworse.format import write
from noworse.representation import Representation
from noworse.run.processes import World


def require_writable(path: str | os.PathLike[str]) -> None:
    """Raise BadInput where no file can be made at ``path``: known before any work is done."""
    folder = Path(path).resolve().parent
    if not folder.is_dir() or not os.access(folder, os.W_OK) or Path(path).is_dir():
        raise BadInput(f"cannot write {path}: expected a file name in an existing, writable folder")


class Output:
    """A file in the making at ``partial``; at the end of a block what was not published is removed.

    Among several ranks the first one alone writes and removes. BadInput where no file can be made at ``path``, before
    any work is done.
    """

    def __init__(self, path: str | os.PathLike[str], world: World) -> None:
        self.path, self.world = Path(path), world
        self.partial = self.path.with_name(self.path.name + ".partial")
        if world.first:
            require_writable(self.path)

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.world.first:
            self.partial.unlink(missing_ok=True)

    def write(self, items: Mapping[str, Representation], settings: Mapping[str, Any], coder: str) -> None:
        """Write tensors and settings to the unpublished file; its verdict comes later."""
        write(self.partial, items, dict(settings), coder=coder)

    def content(self) -> bytes:
        """Return the bytes of the unpublished file, on every rank."""
        return self.world.send(self.partial.read_bytes() if self.world.first else b"")

    def publish(self) -> None:
        """Move the file to its name."""
        self.world.lead(lambda: str(self.partial.replace(self.path)))
