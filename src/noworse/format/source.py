"""The bytes of a file, wherever they are: read at an offset, without a position that others could move."""

from __future__ import annotations

import os
from pathlib import Path

from noworse.errors import BadInput, CorruptFile


class Source:
    """A file on disk or bytes in memory; threads, and processes after a fork, may read at once. OSError as ``open``."""

    def __init__(self, source: str | Path | bytes) -> None:
        self._data = source if isinstance(source, bytes) else None
        self._file = None if isinstance(source, bytes) else Path(source).open("rb", buffering=0)  # noqa: SIM115
        self.size = len(source) if isinstance(source, bytes) else os.fstat(self._fd()).st_size

    def read(self, start: int, count: int) -> bytes:
        """Return so many bytes from an offset on; CorruptFile where the file ends before, BadInput where closed."""
        self.check_open()
        data = self._pread(start, count) if self._data is None else self._data[start : start + count]
        if len(data) != count:
            raise CorruptFile(f"{len(data)} bytes at offset {start}, expected {count}: the file is truncated")
        return data

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
