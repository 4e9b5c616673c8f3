"""Files frozen per version: what they hold, and how one is made (``python -m tests.format.golden_files``).

A golden file is never written again once its version is released: it stands for the files that people have.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from noworse.format import write
from noworse.representation import DTYPES, Codebook, Constant, Form, Grid, Groups, Outliers, Product, Raw, Tied

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


def small_grids():
    """Streams of codes: shared and not, constant, with an escape symbol."""
    far = codes(300, 5, 4)
    far[[7, 170]] = [123456, -(1 << 30)]
    return {
        "a.weight": Grid(codes(300, 1, 2), 0x7A40, 40, (10, 30), "float32"),
        "a.bias": Grid(codes(10, 2, 40), 0x7812, 32, (10,), "float16"),
        "far": Grid(far, 0x7000, 255, (300,), "float64"),
        "b.weight": Grid(codes(60, 3, 3), 0x7A41, 44, (5, 3, 4), "bfloat16"),
        "zeros": Grid(np.zeros(17000, np.int32), 1, 1, (17000,), "float32"),
        "tied": Tied("a.weight", (10, 30), "float32"),
    }


def uneven(count, seed, most):
    """Integers up to ``most`` in size, half of them smaller, of either sign."""
    bits = noise(count, seed)
    values = (bits >> 20).astype(np.int32) % (2 * most + 1) - most
    return np.where(bits >> 19 & 1, values, values // 3).astype(np.int32)


def small_contexts():
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


def small_lanes():
    """A stream of eight lanes, at little more than 0.4 bits per symbol: with fewer it would get one lane."""
    bits = noise(66000, 6)
    return {
        "lanes": Grid(np.where(bits < 0xEC000000, 0, 1 + (bits & 1)).astype(np.int32), 0x7B00, 33, (66000,), "float32")
    }


def small_classes():
    """A matrix whose rows and columns differ in scale, so that several tables serve it."""
    row, column = np.divmod(np.arange(16384, dtype=np.int32), 128)
    small = codes(16384, 11, 4) * (row % 8 == 0) * (1 + column % 2)
    return {"classes": Grid(small.astype(np.int32), 0x7A00, 36, (128, 128), "float32")}


def small_lossless():
    """Streams of bytes: shared and not, plain and coded; constants, empty tensors."""
    return {
        "ones": Constant(np.float32(1).tobytes(), (20,), "float32"),
        "count": Constant((2**40).to_bytes(8, "little"), (), "int64"),
        "on": Constant(b"\1", (3,), "bool"),
        "no.bytes": Raw(b"", (3, 0), "int8"),
        "no.codes": Grid(np.zeros(0, np.int32), 9, 9, (0, 4), "float32"),
        "half": Raw((codes(40, 8, 4) / 64).astype(np.float16).tobytes(), (40,), "float16"),
        "pair": Raw((noise(20, 3) >> 16).astype(np.float32).tobytes(), (10,), "complex64"),
        "flags": Raw((noise(30, 7) >> 31).astype(np.uint8).tobytes(), (30,), "bool"),
        "coded": Raw((codes(1100, 9, 4) + 100).astype(np.uint8).tobytes(), (1100,), "uint8"),
        "tied": Tied("half", (40,), "float16"),
    }


def small_forms():
    """Curves, and rows with steps of their own."""
    rows = np.arange(-10, 10, dtype=np.int8).tobytes()
    scales = (0x8100, 0x7F80, 0x8000, 0x7E00, 0x7F00)
    return {
        "log.weight": Grid(codes(300, 1, 3), 0x7A40, 32, (10, 30), "float32", Form("log", (0x7B55,))),
        "exp.weight": Grid(codes(300, 2, 9), 0x7A41, 40, (20, 15), "float16", Form("exp", (0x7812,), rows)),
        "plain.weight": Grid(codes(60, 3, 3), 0x7A41, 44, (5, 3, 4), "bfloat16"),
        "scales": Grid(codes(200, 4, 12), 0x7812, 33, (200,), "float64", Form("multiscale", scales)),
        "rows.weight": Grid(codes(400, 5, 2), 0x7A00, 47, (20, 5, 4), "float32", Form(channels=rows)),
    }


def small_products():
    """Products of each split, one with a stream of its own, one as the target of a tie; context-coded or not."""
    flat = [Grid(codes(n, n, 4), 0x7A00 + n, 40, shape, "float32") for n, shape in ((40, (20, 2)), (60, (2, 30)))]
    spatial = [Grid(codes(n, n, 40), 0x7900 + n, 33, shape, "bfloat16") for n, shape in ((24, (12, 2)), (18, (2, 9)))]
    return {
        "fc.weight": Product(*flat, 0, (20, 5, 6), "float32"),
        "fc.bias": Grid(codes(20, 2, 40), 0x7812, 32, (20,), "float32"),
        "conv.weight": Product(*spatial, 1, (4, 3, 3, 3), "bfloat16"),
        "tied": Tied("fc.weight", (20, 5, 6), "float32"),
    }


def small_codebooks():
    """A few values and 256 of them, one alone, signed zeros and a NaN; a matrix with classes would be larger."""
    def words(seed, count, dtype, size):
        known = np.unique(noise(count, seed).astype(dtype))
        return known[noise(size, seed + 1) % known.size // (1 + noise(size, seed + 2) % 3)]

    odd = np.array([0, 1 << 31, 0x7FC00001, 0xFFC00002, 1, 0x3F800000], np.uint32)
    return {
        "fc.weight": Codebook.from_values(words(1, 16, np.uint32, 300).view(np.float32).reshape(10, 30), "float32"),
        "many": Codebook.from_values(words(4, 256, np.uint16, 700), "bfloat16"),
        "half": Codebook.from_values(words(7, 3, np.uint16, 40).view(np.float16), "float16"),
        "odd": Codebook.from_values(odd[noise(50, 9) % 6].view(np.float32), "float32"),
        "one": Codebook.from_values(np.full((2, 1), -0.1), "float64"),
        "grid": Grid(codes(60, 3, 3), 0x7A41, 44, (5, 3, 4), "bfloat16"),
        "none": Codebook(np.zeros(0, np.int32), bytes(4), 0, (0, 3), "float32"),
        "tied": Tied("half", (40,), "float16"),
    }


def small_outliers():
    """Lists of one and of several elements, first and last, near and far from one another; NaN and the least number."""
    def beside(grid, places, bits):
        words = np.array(bits, f"u{grid.nbytes // grid.size}")
        return Outliers.beside(grid, np.array(places), words)

    rows = np.arange(-10, 10, dtype=np.int8).tobytes()
    return {
        "fc.weight": beside(Grid(codes(300, 1, 2), 0x7A40, 40, (10, 30), "float32"), [7], [0xC61C4000]),
        "fc.bias": beside(Grid(codes(10, 2, 40), 0x7812, 32, (10,), "float16"), [0, 9], [0xFC00, 1]),
        "brain": beside(Grid(codes(60, 3, 3), 0x7A41, 44, (5, 3, 4), "bfloat16"), [0, 1, 59], [9, 0xFF7F, 0x7FC1]),
        "form": beside(
            Grid(codes(300, 2, 9), 0x7A41, 40, (20, 15), "float64", Form("exp", (0x7812,), rows)), [150], [1 << 63]
        ),
        "plain": Grid(codes(30, 5, 3), 0x7A41, 44, (30,), "float32"),
        "tied": Tied("fc.weight", (10, 30), "float32"),
    }


def small_groups():
    """Minima and zero points, scales of each dtype, one scale for all, one for each element, products that overflow."""
    def vector(values, dtype="float16"):
        return Raw(np.array(values, dtype).tobytes(), (len(values),), dtype)

    def levels(seed, most, shape):
        return (noise(int(np.prod(shape)), seed) % most).astype(np.uint8).reshape(shape)

    brain = Raw(np.array([0x3E4D, 0xBD80, 0x7F00], np.uint16).tobytes(), (3,), "bfloat16")
    points = vector([8, 7, 0], "uint8")
    return {
        "minima.weight": Groups.of(
            levels(1, 16, (4, 32)), vector([0.1, 0.02, 3, 6e-8]), vector([-1, 0, -20, 9]), "float32"
        ),
        "points.weight": Groups.of(levels(2, 16, (3, 16)), brain, points, "bfloat16"),
        "half.weight": Groups.of(levels(3, 256, (3, 8)), vector([0.1, -300, 6e4]), points, "float16"),
        "ternary.weight": Groups.of(
            levels(4, 3, (20, 9)), vector([0.0371], "float32"), Constant(b"\1", (1,), "uint8"), "float32"
        ),
        "each": Groups.of(levels(5, 9, (3,)), vector([1, -1, 0]), vector([0, 0, 0]), "float32"),
        "tied": Tied("minima.weight", (4, 32), "float32"),
    }


def small_pieces():
    """Bytes in a stream for each block: of one value, coded, as they are; as wide as machine words, and not."""
    count = 262144 + 700
    words, bytes_, wide = np.zeros(count, np.uint16), np.zeros(count, np.int8), np.zeros(2 * count, np.float64)
    words[262144:] = 0x1200 + (noise(700, 3) >> 24)
    bytes_[262144:] = codes(700, 4, 4)
    wide[-4:] = [1.0, -2.0, 0.5, 3.0]
    return {
        "words": Raw(words.tobytes(), (count,), "uint16"),
        "bytes": Raw(bytes_.tobytes(), (2, count // 2), "int8"),
        "wide": Raw(wide.tobytes(), (count,), "complex128"),
        "tied": Tied("words", (count,), "uint16"),
        "brain": Raw((codes(40, 8, 4) / 64).astype(np.float32).tobytes(), (40,), "float32"),
    }


VERSIONS = {1: version_1}
# at most 4 KB each, so that every bit can be flipped
SMALL = {
    "v1.grids": small_grids,
    "v1.lanes": small_lanes,
    "v1.classes": small_classes,
    "v1.lossless": small_lossless,
    "v1.max": small_contexts,
    "v1.forms": small_forms,
    "v1.products": small_products,
    "v1.products.max": small_products,
    "v1.codebooks": small_codebooks,
    "v1.codebooks.max": small_codebooks,
    "v1.outliers": small_outliers,
    "v1.outliers.max": small_outliers,
    "v1.groups": small_groups,
    "v1.pieces": small_pieces,
}

FILES = {**{f"v{version}": items for version, items in VERSIONS.items()}, **SMALL}


def make():
    """Write what is missing."""
    for name, items in FILES.items():
        path = FOLDER / f"{name}.nwt"
        if not path.exists():
            print(path, write(path, items(), SETTINGS, VERDICT, "max" if name.endswith(".max") else "fast"))


if __name__ == "__main__":
    make()
