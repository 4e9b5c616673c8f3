"""Random files, a small model's file, and files forged column by column."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from noworse.format.index import columns, tail
from noworse.format.writer import HEADER, deflate
from noworse.representation import DTYPES, Constant, Grid, Raw, Tied

shapes = npst.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=6)
names = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)


@st.composite
def constants(draw):
    dtype = draw(st.sampled_from(sorted(DTYPES)))
    width = DTYPES[dtype].itemsize
    value = b"\1" if dtype == "bool" else draw(st.binary(min_size=width, max_size=width))
    return Constant(value, draw(shapes), dtype)


@st.composite
def raws(draw):
    dtype, shape = draw(st.sampled_from(sorted(DTYPES))), draw(shapes)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    high = 2 if dtype == "bool" else draw(st.sampled_from([3, 256]))
    return Raw(rng.integers(0, high, int(np.prod(shape)) * DTYPES[dtype].itemsize, np.uint8).tobytes(), shape, dtype)


@st.composite
def grids(draw, most):
    shape = draw(shapes | st.sampled_from([s for s in [(600,), (1500,), (130, 128), (17000,)] if np.prod(s) <= most]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    codes = rng.laplace(scale=draw(st.sampled_from([0.1, 1.0, 30.0, 1e6])), size=int(np.prod(shape)))
    dtype = draw(st.sampled_from(["float16", "bfloat16", "float32", "float64"]))
    return Grid(codes.astype(np.int32), draw(st.integers(1, 65279)), draw(st.integers(1, 255)), shape, dtype)


@st.composite
def models(draw, most=20000):
    """A dictionary of representations, some tied to another one, grids having at most about so many codes."""
    items = draw(st.dictionaries(names, constants() | raws() | grids(most), max_size=8))
    for name in draw(st.lists(names, max_size=2)) if items else []:
        target = draw(st.sampled_from(sorted(n for n, item in items.items() if not isinstance(item, Tied))))
        if name not in items:
            items[name] = Tied(target, items[target].shape, items[target].dtype)
    order = draw(st.permutations(list(items)))
    return {name: items[name] for name in order}


def small_model():
    """One tensor of every kind."""
    rng = np.random.default_rng(3)
    codes = rng.laplace(size=64).astype(np.int32)
    return {
        "layer.weight": Grid(codes, 30000, 40, (8, 8), "float32"),
        "layer.bias": Grid(rng.integers(-9, 9, 8, np.int32), 30001, 32, (8,), "float32"),
        "norm.weight": Constant(np.float32(1).tobytes(), (8,), "float32"),
        "norm.running_mean": Raw(rng.normal(size=8).astype(np.float32).tobytes(), (8,), "float32"),
        "norm.num_batches_tracked": Constant((123).to_bytes(8, "little"), (), "int64"),
        "head.weight": Tied("layer.weight", (8, 8), "float32"),
    }


def forge(file, text=None, behind=None, **replaced):
    """The file with columns of its index replaced: what a hostile writer might make, checksums included."""
    parts = {}
    for what, data in columns(file.index):
        parts[what] = parts.get(what, b"") + data
    text = b"".join(replaced.get(what, data) for what, data in parts.items()) if text is None else text
    behind = b"".join(data for _, data in tail(file.index)) if behind is None else behind
    data = file.raw(0, len(HEADER) + sum(stream.nbytes for stream in file.index.streams))
    return seal(data, deflate(text) + behind, len(text))


def seal(data, index, raw_length, index_length=None):
    """Data and index with a valid trailer."""
    lengths = struct.pack("<II", len(index) if index_length is None else index_length, raw_length)
    return data + index + lengths + struct.pack("<I", zlib.crc32(lengths, zlib.crc32(index, zlib.crc32(HEADER))))
