"""Where every byte of a file goes."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.format.index import Index, columns, deflater, tail
from noworse.format.parse import Use

CHECKSUM_BYTES = 4  # of the trailer


def attribute(index: Index, uses: Sequence[Use], header: int, trailer: int, packed: int) -> dict[str, int]:
    """Return bytes by category, largest first, for an index of ``packed`` bytes; a column costs what it adds."""
    total = Counter({"header": header + trailer - CHECKSUM_BYTES, "checksums": CHECKSUM_BYTES})
    total.update({"payload": 0, "tables": 0})
    for stream, use in zip(index.streams, uses, strict=True):
        total["classes" if use.scales else "payload"] += sum(stream.blocks)
        total["classes" if use.scales else "tables"] += stream.table or 0
    behind = Counter[str]()
    for what, data in tail(index):
        behind[what] += len(data)
    added, packer, done, before = Counter[str](), deflater(), 0, 0
    for what, data in columns(index):
        done += len(packer.compress(data))
        now = done + len(packer.copy().flush())
        added[what] += max(0, now - before) if data else 0
        before = now
    whole = packed - behind.total()
    total.update(behind)
    total.update(dict(zip(added, apportion(whole, list(added.values())), strict=True)))
    return dict(sorted(total.items(), key=lambda item: -item[1]))


def apportion(whole: int, weights: Sequence[float]) -> list[int]:
    """Return integers in proportion to the weights that sum to ``whole`` exactly (largest remainders)."""
    shares = np.asarray(weights if any(weights) else [1.0] * len(weights), np.float64)
    exact = whole * shares / shares.sum()
    parts = exact.astype(np.int64)
    parts[np.argsort(parts - exact, kind="stable")[: whole - int(parts.sum())]] += 1
    return list(parts.tolist())


def split_shared(nbytes: int, symbols: NDArray[Any], sizes: Sequence[int]) -> list[int]:
    """Return the bytes of a stream by tensor, shared by ideal code lengths of their symbols (at least 0.01 bit)."""
    _, inverse, counts = np.unique(symbols, return_inverse=True, return_counts=True)
    lengths = np.maximum(np.log2(symbols.size / counts), 0.01)[inverse.reshape(-1)]
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    return apportion(nbytes, np.add.reduceat(lengths, starts).tolist())
