"""The file of a job: made beside its name, and moved there only when it passed."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from noworse.format import write
from noworse.format.source import AnyPath, create_beside, destination, expanded
from noworse.representation import Representation
from noworse.run.processes import World


class Output:
    """A file in the making at ``partial``; at the end of a block what was not published is removed.

    Among several ranks the first one alone writes and removes. BadInput where no file can be made at ``path``, before
    any work is done.
    """

    def __init__(self, path: AnyPath, world: World) -> None:
        self.path, self.world = expanded(path), world
        self._target = destination(path) if world.first else self.path
        self._made: Path | None = None

    @property
    def partial(self) -> Path:
        """The unpublished file; its first writing makes it."""
        if self._made is None:
            self._made = create_beside(self._target)
        return self._made

    def __enter__(self) -> Output:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._made is not None:
            self._made.unlink(missing_ok=True)

    def write(self, items: Mapping[str, Representation], settings: Mapping[str, Any], coder: str) -> None:
        """Write tensors and settings to the unpublished file; its verdict comes later."""
        write(self.partial, items, dict(settings), coder=coder)

    def content(self) -> bytes:
        """Return the bytes of the unpublished file, on every rank."""
        return self.world.send(self.partial.read_bytes() if self.world.first else b"")

    def publish(self) -> None:
        """Move the file to its name."""
        self.world.lead(lambda: str(self.partial.replace(self._target)))
