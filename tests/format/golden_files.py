"""Files frozen per version: what they hold, and how one is made (``python -m tests.format.golden_files``).

A golden file is never written again once its version is released: it stands for the files that people have.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from noworse.format import write
from noworse.representation import DTYPES, Constant, Grid, Raw, Tied

FOLDER = Path(__file__).parent / "golden"
SETTINGS = {"seed": 1, "target": "20.0", "note": "äöü"}
VERDICT = {"verdict": "no worse", "samples": 10000, "upper_bound": 0.00123}


def noise(count, seed):
    """Uniform 32-bit integers from a generator that no library can change (Numerical Recipes, 1992)."""
    values = np.empty(count, np.uint32)
    state = seed
    for i in range(count):
        state = (1664525 * state + 1013904223) % 2**32
        values[i] = state
    return values


def codes(count, seed, scale):
    """Roughly Laplacian integers, made of integer arithmetic alone."""
    bits = noise(count, seed)
    zeros = 31 - np.floor(np.log2(np.maximum(bits >> 1, 1))).astype(np.int64)  # geometric
    return np.where(bits & 1, 1, -1).astype(np.int32) * ((zeros - 1) * scale // 4).astype(np.int32)


def version_1():
    """Every kind, dtype and way of storing a stream."""
    far = codes(3000, 5, 4)
    far[[7, 1700]] = [123456, -(1 << 30)]  # escaped
    row, column = np.divmod(np.arange(20000, dtype=np.int32), 100)
    scale = (1 + row // 100) * (1 + column % 2 * 3)
    items = {
        "block.0.weight": Grid(codes(20000, 1, 2), 0x7A40, 40, (100, 200), "float32"),
        "block.0.bias": Grid(codes(100, 2, 40), 0x7812, 32, (100,), "float32"),
        "block.1.weight": Grid(codes(600, 3, 2), 0x7A41, 44, (20, 3, 10), "bfloat16"),
        "block.1.bias": Grid(codes(20, 4, 40), 0x7813, 32, (20,), "float16"),
        "far": Grid(far, 0x7000, 255, (3000,), "float64"),
        "classes": Grid(codes(20000, 10, 1) * scale, 0x7A00, 36, (200, 10, 10), "float32"),
        "lanes": Grid(codes(70000, 6, 1) // 3, 0x7B00, 33, (70000,), "float32"),
        "zeros": Grid(np.zeros(17000, np.int32), 1, 1, (17000,), "float32"),
        "no.codes": Grid(np.zeros(0, np.int32), 9, 9, (0, 4), "float32"),
        "tied": Tied("block.0.weight", (100, 200), "float32"),
        "ones": Constant(np.float32(1).tobytes(), (20,), "float32"),
        "count": Constant((2**40).to_bytes(8, "little"), (), "int64"),
        "no.bytes": Raw(b"", (3, 0), "int8"),
        "plain": Raw(noise(1100, 7).tobytes(), (1100,), "uint32"),
        "coded": Raw((codes(1200, 8, 4) / 64).astype(np.float32).tobytes(), (30, 40), "float32"),
    }
    for name, dtype in DTYPES.items():
        data = noise(3 * dtype.itemsize, 9).astype(np.uint8) & (1 if name == "bool" else 255)
        items[f"dtype.{name}"] = Raw(data.tobytes(), (3,), name)
    return items


def uneven(count, seed, most):
    """Integers up to ``most`` in size, half of them smaller, of either sign."""
    bits = noise(count, seed)
    values = (bits >> 20).astype(np.int32) % (2 * most + 1) - most
    return np.where(bits >> 19 & 1, values, values // 3).astype(np.int32)


def context_coded():
    """Grids in one context-coded stream: a matrix that looks at an image, kernels, codes of every size."""
    far = uneven(50, 5, 100)
    far[[7, 20, 30]] = [123456, -(1 << 30), 1 << 30]
    return {
        "image.weight": Grid(uneven(4 * 64, 1, 3), 0x7A40, 40, (4, 64), "float32"),
        "conv.weight": Grid(
            np.cumsum(uneven(6 * 4 * 9, 2, 2), dtype=np.int32) // 2, 0x7A41, 44, (6, 4, 3, 3), "bfloat16"
        ),
        "conv.bias": Grid(far, 0x7000, 255, (50,), "float64"),
        "empty": Grid(np.zeros(0, np.int32), 9, 9, (0, 4), "float32"),
        "fc.weight": Grid(uneven(5 * 54, 3, 9), 0x7813, 32, (5, 54), "float16"),
        "zeros": Grid(np.zeros(300, np.int32), 1, 1, (1, 20, 15), "float32"),
        "head.weight": Grid(uneven(9 * 5, 4, 25), 0x7812, 32, (9, 5), "float32"),
        "alone": Grid(uneven(1, 7, 9), 0x7812, 32, (), "float32"),
        "tied": Tied("head.weight", (9, 5), "float32"),
    }


VERSIONS = {1: version_1}
CONTEXT_CODED = FOLDER / "v1.max.nwt"

if __name__ == "__main__":
    for version, items in VERSIONS.items():
        path = FOLDER / f"v{version}.nwt"
        if not path.exists():
            print(path, write(path, items(), SETTINGS, VERDICT))
    if not CONTEXT_CODED.exists():
        print(CONTEXT_CODED, write(CONTEXT_CODED, context_coded(), SETTINGS, VERDICT, "max"))
