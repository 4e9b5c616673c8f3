"""What a reader accepts before it allocates anything."""

from __future__ import annotations

INDEX_BYTES = 16 << 20  # of the compressed and of the decompressed index
TENSORS = 1_000_000
NAME_BYTES = 4096  # per name, UTF-8
NAMES_BYTES = 256 << 20  # of all names: front coding could inflate a small index
SYMBOLS_PER_BYTE, FREE_SYMBOLS = 1 << 8, 1 << 16  # of a context-coded stream: what it decodes to takes time


def default_max_bytes(file_size: int) -> int:
    """Decoded bytes accepted where the caller sets no limit: 1 GiB plus 1024 times the size of the file."""
    return (1 << 30) + 1024 * file_size
