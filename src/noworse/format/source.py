"""Files as bytes: read at an offset, without a position that others could move, and written whole or not at all."""

import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from os.path import samestat
from pathlib import Path
from typing import BinaryIO, TypeAlias

from noworse.errors import BadInput, CorruptFile

AnyPath: TypeAlias = str | os.PathLike[str]


def expanded(path: AnyPath) -> Path:
    """Return a path whose "~" in front is the user's home, as shells have it; unchanged where no home is known."""
    return Path(os.path.expanduser(path))  # noqa: PTH111  (Path's own fails there)


def open_regular(path: str | Path) -> FileIO:
    """Return a file opened to read bytes; BadInput for a FIFO or a device, which have no offsets, OSError as ``open``.

    Does not wait for somebody to write into a FIFO: an archive from strangers may hold one.
    """
    file = os.fdopen(os.open(expanded(path), os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb", buffering=0)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise BadInput(f"{path} is a FIFO or a device, expected a file")
    return file


class Source:
    """A file on disk or bytes in memory; threads, and processes after a fork, may read at once.

    BadInput and OSError as ``open_regular``.
    """

    def __init__(self, source: str | Path | bytes) -> None:
        self._data = source if isinstance(source, bytes) else None
        self._file = None if isinstance(source, bytes) else open_regular(source)
        self.size = len(source) if isinstance(source, bytes) else os.fstat(self._fd()).st_size

    def read(self, start: int, count: int) -> bytes:
        """Return so many bytes from an offset on; CorruptFile where the file ends before, BadInput where closed."""
        self.check_open()
        data = self._pread(start, count) if self._data is None else self._data[start : start + count]
        if len(data) != count:
            raise CorruptFile(f"{len(data)} bytes at offset {start}, expected {count}: the file is truncated")
        return data

    def view(self, start: int, count: int) -> bytes | memoryview:
        """Return what ``read`` does, without a copy of what is in memory."""
        if self._data is None:
            return self.read(start, count)
        data = memoryview(self._data)[start : start + count]
        return data if len(data) == count else self.read(start, count)

    def check_open(self) -> None:
        """Raise BadInput after ``close``."""
        if self._data is None and self._file is None:
            raise BadInput("the file is closed, expected it to be open: read tensors before the with block ends")

    def close(self) -> None:
        """Close the file; again does nothing."""
        if self._file is not None:
            self._file.close()
        self._file = self._data = None

    def _fd(self) -> int:
        assert self._file is not None
        return self._file.fileno()

    def _pread(self, start: int, count: int) -> bytes:
        """The system may give less at a time (2 GiB on Linux)."""
        parts = []
        while count and (part := os.pread(self._fd(), count, start)):
            parts.append(part)
            start, count = start + len(part), count - len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)


NAME_BYTES = 100  # of a target's name that a temporary one repeats: file systems allow 255 bytes of any name
TYPES = {stat.S_IFDIR: "folder", stat.S_IFCHR: "device", stat.S_IFBLK: "device", stat.S_IFIFO: "FIFO"}


def destination(path: AnyPath, *sources: AnyPath) -> Path:
    """Return the file that is made or replaced when one is written to ``path``: links are followed, as by ``cp``.

    BadInput where none can be: no name or folder, no permission, a device, a FIFO, or one of the ``sources`` that it
    is to be made from, under whatever name.
    """
    try:
        target, found = Path(os.path.realpath(expanded(path))), _status(path)
        read = [source for source in sources if found and (old := _status(source)) and samestat(found, old)]
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}") from error
    except ValueError as error:  # zero bytes, halves of surrogate pairs
        raise BadInput(f"cannot write {os.fspath(path)!r}: not the name of a file") from error
    expected = "expected a file name in an existing, writable folder"
    if found is not None and not stat.S_ISREG(found.st_mode):
        raise BadInput(f"cannot write {path}: it is a {TYPES.get(stat.S_IFMT(found.st_mode), 'socket')}, {expected}")
    if read:
        raise BadInput(f"cannot write {path}: it is {read[0]}, which is read; expected another file")
    if found is not None and not os.access(target, os.W_OK):
        raise BadInput(f"cannot write {path}: what is there is write-protected")
    if not target.parent.is_dir() or not os.access(target.parent, os.W_OK):
        raise BadInput(f"cannot write {path}: {expected}")
    return target


def create_beside(target: Path) -> Path:
    """Make an empty file that is to be written and renamed to ``target``, with mode and owner of what is there.

    BadInput where none can be made, or where the owner is somebody whom files cannot be given to.
    """
    name = os.fsencode(target.name)[:NAME_BYTES].decode(errors="ignore")
    made = target.with_name(f".{name}.{secrets.token_hex(8)}.tmp")
    try:
        old = _status(target)
        os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600 if old else 0o666))
        if old is not None:
            _keep(made, old)
    except OSError as error:
        raise BadInput(f"cannot write {target}: {error.strerror or error}") from error
    return made


def _keep(made: Path, old: os.stat_result) -> None:
    """Give a file the owner and the mode of another one."""
    new = made.stat()
    try:
        if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
            os.chown(made, old.st_uid, old.st_gid)
        made.chmod(stat.S_IMODE(old.st_mode))
    except OSError as error:
        made.unlink()
        owner = f"user {old.st_uid} and group {old.st_gid}"
        raise OSError(error.errno, f"a new file cannot be given to {owner}, to whom the old one belongs") from error


@contextmanager
def atomic_file(path: AnyPath, *sources: AnyPath) -> Iterator[BinaryIO]:
    """Open a binary file that takes the place of ``path`` when the block ends without an exception, and vanishes else.

    Written beside the target, synchronised, renamed; BadInput as ``destination``, or where writing fails.
    """
    target = destination(path, *sources)
    temporary = create_beside(target)
    try:
        with temporary.open("wb") as out:
            yield out
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(target)
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):  # gone after the rename; a folder that forbids removal forbade creation as well
            temporary.unlink()
    _sync_folder(target.parent)


def _status(path: AnyPath) -> os.stat_result | None:
    """What is there behind links; None for nothing, which a link that leads nowhere also stands for."""
    try:
        return expanded(path).stat()
    except FileNotFoundError:
        return None


def _sync_folder(folder: Path) -> None:
    """Make the rename itself durable, where the system lets a folder be opened."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
