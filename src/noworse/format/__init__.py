"""The .nwt file: data chunks, an index, a trailer; written atomically, checked on every read (see docs/format.md)."""

from noworse.format.reader import METADATA, File
from noworse.format.writer import CODERS, Lazy, pack, packed_size, restamp, write

__all__ = ["CODERS", "METADATA", "File", "Lazy", "pack", "packed_size", "restamp", "write"]
