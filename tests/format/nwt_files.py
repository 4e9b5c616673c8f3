"""Random models for files."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from noworse.representation import (
    DTYPES,
    KINDS,
    Codebook,
    Constant,
    Form,
    Grid,
    Groups,
    Outliers,
    Product,
    Raw,
    Tied,
    from_float32,
)
from noworse.representation.curves import CURVES

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
    step, form = draw(st.integers(1, 65279)), draw(forms(shape))
    if form.channels:
        step = min(max(step, 1 + 128 * 16), 65279 - 127 * 16)
    return Grid(codes.astype(np.int32), step, draw(st.integers(1, 255)), shape, dtype, form)


@st.composite
def forms(draw, shape):
    """Mostly plain ones, every curve, rows with steps of their own."""
    curve = draw(st.sampled_from(["linear"] * 4 + sorted(CURVES)))
    ordinary = st.integers(0x7000, 0x8200) | st.integers(1, 65279)
    parameters = draw(st.tuples(*[ordinary] * CURVES[curve].parameters))
    rows = shape[0] if shape and draw(st.integers(0, 3)) == 0 else 0
    return Form(curve, parameters, draw(st.binary(min_size=rows, max_size=rows)))


@st.composite
def products(draw):
    shape = draw(st.sampled_from([(4, 6), (9, 3), (5, 2, 3, 4), (6, 4, 3, 3), (150, 140)]))
    split = draw(st.integers(0, 1)) if len(shape) == 4 else 0
    rows = shape[0] * shape[3] if split else shape[0]
    columns = int(np.prod(shape)) // rows
    rank = draw(st.integers(1, min(4, rows * columns // (rows + columns))))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    dtype = draw(st.sampled_from(["float16", "bfloat16", "float32", "float64"]))
    scale = draw(st.sampled_from([0.1, 1.0, 300.0]))
    factors = [
        Grid(rng.laplace(scale=scale, size=m * n).astype(np.int32), draw(st.integers(1, 65279)),
             draw(st.integers(1, 255)), (m, n), dtype)
        for m, n in ((rows, rank), (rank, columns))
    ]  # fmt: skip
    return Product(*factors, split, shape, dtype)


@st.composite
def codebooks(draw, most):
    shape = draw(shapes | st.sampled_from([s for s in [(600,), (130, 128), (17000,)] if np.prod(s) <= most]))
    dtype = draw(st.sampled_from(["float16", "bfloat16", "float32", "float64"]))
    width, rng = DTYPES[dtype].itemsize, np.random.default_rng(draw(st.integers(0, 99)))
    if 0 in shape:
        return Codebook(np.zeros(0, np.int32), bytes(width), 0, shape, dtype)
    known = rng.integers(0, 1 << 8 * width, draw(st.sampled_from([1, 2, 9, 256])), f"u{width}", endpoint=False)
    places = rng.geometric(draw(st.sampled_from([0.02, 0.5])), int(np.prod(shape))) % known.size
    return Codebook.from_values(known[places].reshape(shape), dtype)


@st.composite
def outliers(draw, most):
    grid = draw(grids(most).filter(lambda grid: grid.size))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    count = min(grid.size, draw(st.sampled_from([1, 2, 300, 1024])))
    words = rng.integers(0, 256, grid.nbytes, np.uint8).view(DTYPES[grid.dtype].storage)[:count]
    return Outliers.beside(grid, np.sort(rng.choice(grid.size, count, replace=False)), words)


@st.composite
def groups(draw, most):
    shape = draw(st.sampled_from([(4, 8), (30,), (2, 3, 16), *([(130, 128)] if most > 16640 else [])]))
    dtype, scale = (draw(st.sampled_from(["float16", "bfloat16", "float32"])) for _ in range(2))
    rng, size = np.random.default_rng(draw(st.integers(0, 99))), int(np.prod(shape))
    count = size // draw(st.sampled_from([n for n in (1, 2, size) if size % n == 0]))
    spread = draw(st.sampled_from([1e-6, 1.0, 1e4]))
    scales, minima = (from_float32(rng.normal(0, spread, count).astype(np.float32), scale) for _ in range(2))
    shifts = draw(st.sampled_from([Raw(minima.tobytes(), (count,), scale), Constant(b"\x08", (count,), "uint8")]))
    codes = rng.integers(0, draw(st.sampled_from([3, 16, 256])), shape, np.uint8)
    return Groups.of(codes, Raw(scales.tobytes(), (count,), scale), shifts, dtype)


def strategies(most):
    """Random tensors of each kind."""
    return {
        Constant: constants(), Raw: raws(), Grid: grids(most), Product: products(), Codebook: codebooks(most),
        Outliers: outliers(most), Groups: groups(most),
    }  # fmt: skip


@st.composite
def models(draw, most=20000):
    """A dictionary of representations, some tied to another one, grids having at most about so many codes."""
    kinds = [strategies(most)[kind] for kind in KINDS.values() if not kind.refers]
    items = draw(st.dictionaries(names, st.one_of(kinds), max_size=8))
    for name in draw(st.lists(names, max_size=2)) if items else []:
        target = draw(st.sampled_from(sorted(n for n, item in items.items() if not isinstance(item, Tied))))
        if name not in items:
            items[name] = Tied(target, items[target].shape, items[target].dtype)
    order = draw(st.permutations(list(items)))
    return {name: items[name] for name in order}
