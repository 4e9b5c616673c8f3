"""Streams of symbols for tests, whole and damaged."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from noworse.codec import Coded, CodedGrid, Decoding, Encoded, Scales, decode_into
from noworse.errors import CorruptFile

FAR = 1 << 30  # the largest code


def laplacian(n: int, scale: float, seed: int = 0) -> np.ndarray:
    return np.rint(np.random.default_rng(seed).laplace(scale=scale, size=n)).astype(np.int32)


def as_coded(encoded: Encoded) -> Coded:
    data = b"".join([encoded.table, *encoded.blocks])
    lengths = [len(block) for block in encoded.blocks]
    checksums = [
        zlib.crc32(block, zlib.crc32(encoded.table) if i == 0 else 0) for i, block in enumerate(encoded.blocks)
    ]
    return Coded(data, len(encoded.table), lengths, checksums, encoded.scales)


def decode(
    table: bytes, blocks: Sequence[bytes], count: int, scales: Scales | None = None, threads: int = 0, simd: int = 3
) -> np.ndarray:
    out = np.empty(count, np.int32)
    lengths = [len(block) for block in blocks]
    decode_into(Coded(b"".join([table, *blocks]), len(table), lengths, scales=scales), out, threads, simd)
    return out


def decode_grids(
    grids: Sequence[CodedGrid], threads: int = 0, simd: int = 3, digest: bool = False
) -> list[int | CorruptFile]:
    return Decoding(grids, threads, simd, digest).results()


def decode_grid_into(
    coded: Coded, out: np.ndarray, step: float, edge: int, threads: int = 0, simd: int = 3, digest: bool = False
) -> int:
    (found,) = decode_grids([CodedGrid(coded, out, step, edge)], threads, simd, digest)
    if isinstance(found, CorruptFile):
        raise found
    return found


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        kind = rng.integers(0, 4)
        at = int(rng.integers(0, len(changed) + 1))
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << int(rng.integers(0, 8))
        elif kind == 1:
            changed[at : at + int(rng.integers(1, 5))] = b""
        elif kind == 2:
            changed[at:at] = rng.bytes(int(rng.integers(1, 5)))
        else:
            changed[at : at + 4] = b"\xff" * 4
    return bytes(changed)
