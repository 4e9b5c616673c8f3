"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from noworse.errors import BadInput


@contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Open a binary file that takes the place of ``path`` when the block ends without an exception, and vanishes else.

    Written beside the target, synchronised, renamed; BadInput where the folder or the file cannot be written.
    """
    target = Path(path)
    if not target.name or "\0" in str(target):
        raise BadInput(f"cannot write {str(path)!r}: not the name of a file")
    temporary = target.with_name(f".{target.name[:100]}.{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(target)
    except OSError as error:
        raise BadInput(f"cannot write {target}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # gone after the rename; a folder that forbids removal forbade creation as well
            temporary.unlink()
    _sync_folder(target.parent)


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets a folder be opened."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
