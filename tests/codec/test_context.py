from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noworse.codec import BLOCK, context
from noworse.errors import BadInput, CorruptFile
from tests.codec import reference_context

SHAPES = [(7, 5), (4, 3, 3, 3), (6, 4, 2, 2), (5, 16), (9,), (1, 1, 8), (), (3, 0), (2, 2), (8, 3, 5), (1, 6, 4)]


@st.composite
def models(draw):
    """Shapes and codes of some small tensors: rows and columns of their own scales, correlated kernels, far codes."""
    shapes = draw(st.lists(st.sampled_from(SHAPES), max_size=8))
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    parts = []
    for shape in shapes:
        scale = draw(st.sampled_from([0.0, 0.3, 2.0, 60.0, 1e6]))
        size = int(np.prod(shape))
        codes = np.clip(np.rint(rng.laplace(size=size, scale=scale)), -(2**30), 2**30).astype(np.int32)
        if size and draw(st.booleans()):
            codes[rng.integers(size)] = draw(st.sampled_from([2**30, -(2**30), 2**29, 15, -16]))
        parts.append(codes)
    return shapes, np.concatenate([np.zeros(0, np.int32), *parts])


@settings(max_examples=60)
@given(models())
def test_codes_survive_and_the_second_decoder_agrees(model):
    shapes, codes = model
    blocks = context.encode(codes, shapes)
    assert blocks == context.encode(codes, shapes)
    assert np.array_equal(context.decode(blocks, shapes), codes)
    assert reference_context.read_stream(list(blocks), shapes) == codes.tolist()


def laplacian(shape, seed=0, scale=1.0):
    rows = np.exp(np.random.default_rng(seed + 1).normal(size=shape[0])).reshape(-1, *[1] * (len(shape) - 1))
    values = np.random.default_rng(seed).laplace(scale=scale, size=shape) * rows
    return np.rint(values).astype(np.int32).reshape(-1)


def test_learning_passes_from_block_to_block():
    shapes = [(300, 1200), (BLOCK // 50, 40)]
    codes = np.concatenate([laplacian(shapes[0]), laplacian(shapes[1], 5)])
    blocks = context.encode(codes, shapes)
    assert len(blocks) == 3
    assert np.array_equal(context.decode(blocks, shapes), codes)
    alone = context.encode(codes[2 * BLOCK :], [(len(codes) - 2 * BLOCK,)])
    assert len(blocks[2]) < len(alone[0])


def entropy(codes):
    _, counts = np.unique(codes, return_counts=True)
    return float(-(counts * np.log2(counts / len(codes))).sum() / 8)


def test_rows_of_their_own_scale_cost_less_than_the_entropy_of_all():
    codes = laplacian((200, 300))
    assert len(context.encode(codes, [(200, 300)])[0]) < 0.9 * entropy(codes)


def test_noise_costs_hardly_more_than_its_entropy():
    codes = np.rint(np.random.default_rng(0).laplace(size=60000)).astype(np.int32)
    assert len(context.encode(codes, [(200, 300)])[0]) < 1.012 * entropy(codes)


def test_smooth_kernels_cost_less_than_their_entropy():
    rng = np.random.default_rng(0)
    bumps = rng.normal(size=(64, 32, 1, 1)) + 0.5 * rng.normal(size=(64, 32, 3, 3))
    codes = np.rint(2 * bumps).astype(np.int32).reshape(-1)
    assert len(context.encode(codes, [(64, 32, 3, 3)])[0]) < 0.85 * entropy(codes)


def test_pixels_are_neighbours_in_a_matrix_that_looks_at_an_image():
    image = np.add.accumulate(np.random.default_rng(0).normal(size=(40, 20, 20)), axis=1)
    codes = np.rint(image).astype(np.int32).reshape(-1)
    square = context.encode(codes, [(40, 400)])[0]
    assert len(square) < 0.95 * len(context.encode(codes, [(40 * 5, 80)])[0])


def test_zeros_cost_next_to_nothing():
    assert len(context.encode(np.zeros(100000, np.int32), [(100, 1000)])[0]) < 40


def test_geometries():
    shapes = [(2, 784), (16, 1, 3, 3), (10, 16 * 49), (5, 10), (1, 50, 64), (3, 4, 7), (0, 3), (), (1, 9)]
    assert list(context.geometries(shapes)) == [
        (2, 784, 784, 28),
        (16, 9, 9, 3),
        (10, 784, 49, 7),
        (5, 10, 1, 1),
        (50, 64, 1, 1),
        (3, 28, 7, 7),
        (1, 1, 1, 1),
        (1, 9, 1, 1),
    ]


@settings(max_examples=300)
@given(st.binary(max_size=60), st.lists(st.sampled_from(SHAPES), max_size=4))
def test_any_bytes_decode_or_are_refused(data, shapes):
    count = sum(int(np.prod(shape)) for shape in shapes)
    try:
        codes = context.decode([data] if count else [], shapes)
    except CorruptFile:
        return
    assert codes.shape == (count,)
    assert abs(codes.astype(np.int64)).max(initial=0) <= 2**30


@pytest.mark.parametrize("bad", [np.zeros((2, 2), np.int32), np.zeros(4, np.int64), np.zeros(3, np.int32)])
def test_wrong_codes_are_refused(bad):
    with pytest.raises(BadInput, match="codes"):
        context.encode(bad, [(4,)])


def test_codes_beyond_the_limit_are_refused():
    with pytest.raises(BadInput, match="beyond"):
        context.encode(np.array([2**30 + 1], np.int32), [()])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda blocks: [], "has 0 blocks, expected 1"),
        (lambda blocks: [blocks[0] + b"\0"], "zero byte"),
        (lambda blocks: [blocks[0] + b"\1" * 9], "bytes are left"),
    ],
)
def test_wrong_blocks_are_refused(change, message):
    blocks = context.encode(laplacian((9, 9)), [(9, 9)])
    with pytest.raises(CorruptFile, match=message):
        context.decode(change(blocks), [(9, 9)])


def test_a_code_beyond_the_limit_is_refused():
    with pytest.raises(CorruptFile, match="beyond"):
        context.decode([b"\xff\xff\xff\1"], [(1,)])


@pytest.mark.parametrize(
    "numbers", [[0, 4, 1, 1], [2, 2, 3, 1], [2, 2, 1, 0], [2, 3, 1, 1], [1, 3, 1, 1], [1, 4, 0, 1]]
)
def test_the_native_coder_checks_its_geometry(numbers):
    with pytest.raises(ValueError, match="tensor"):
        context._native.encode_context(np.zeros(4, np.int32), np.array(numbers, np.uint64))
