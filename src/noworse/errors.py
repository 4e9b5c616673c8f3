"""The exceptions of noworse: every bad input gets exactly one of them, naming what was found and what was expected."""

from typing import Any


class NoWorseError(Exception):
    """Base of all exceptions raised on purpose by this package."""


class CorruptFile(NoWorseError):
    """A .nwt file is damaged, truncated, hostile, or written by a newer version."""


class BadInput(NoWorseError, ValueError):
    """A model, a data set, a loss or an option cannot be used as given."""


class MismatchedModule(NoWorseError):
    """The tensors of a file do not fit the module they are loaded into."""


class TargetMissed(NoWorseError):
    """The size or the tolerance asked for was not reached; nothing was written.

    ``report`` describes the best point found and ``file`` holds it, the bytes of a whole .nwt file (None and no bytes
    from ``compress_file``, whose files may be larger than memory).
    """

    def __init__(self, message: str, report: Any, file: bytes) -> None:
        super().__init__(message, report, file)  # all of them: unpickling calls this again
        self.report = report
        self.file = file

    def __str__(self) -> str:
        return str(self.args[0])
