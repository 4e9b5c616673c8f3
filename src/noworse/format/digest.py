"""A fingerprint of what a file decodes to, independent of how its tensors are written."""

from __future__ import annotations

import hashlib
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.codec import fingerprint
from noworse.format.index import DIGEST_BYTES


class Digest:
    """blake2b over name, dtype, shape and stored elements of every tensor in file order.

    Each tensor adds: u32 length and UTF-8 bytes of its name, the same for its dtype, u32 number of dimensions, each
    extent as u64, then the fingerprint of its elements (little-endian, C order) as u64, or the length and bytes of its
    target's name where tied. The fingerprint is no cryptographic hash: that would take longer than decoding.
    """

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=DIGEST_BYTES)

    def add(
        self, name: str, dtype: str, shape: tuple[int, ...], content: NDArray[Any] | str, known: int | None = None
    ) -> None:
        """Append one tensor; ``content`` is its target's name where it is tied, ``known`` the fingerprint if it is."""
        self._text(name)
        self._text(dtype)
        self._hash.update(struct.pack(f"<I{len(shape)}Q", len(shape), *shape))
        if isinstance(content, str):
            self._text(content)
        elif content.size:
            data = np.ascontiguousarray(content).reshape(-1).view(np.uint8)
            self._hash.update(struct.pack("<Q", fingerprint(data) if known is None else known))

    def _text(self, text: str) -> None:
        data = text.encode()
        self._hash.update(struct.pack("<I", len(data)) + data)

    def value(self) -> bytes:
        """The 16 bytes of the digest."""
        return self._hash.digest()
