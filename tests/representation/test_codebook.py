from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from noworse.codec import _native
from noworse.errors import BadInput
from noworse.format import File, pack, packed_size
from noworse.representation import DTYPES, Codebook, Grid, Raw, to_numpy
from tests.format.reference_codebook import ascending

WIDTHS = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


def values(data, dtype):
    width = WIDTHS[dtype]
    return [data[i : i + width] for i in range(0, len(data), width)]


@given(st.sampled_from(sorted(WIDTHS)), st.integers(1, 256), st.integers(0, 99), st.integers(1, 2000))
def test_any_bits_are_kept(dtype, count, seed, size):
    rng = np.random.default_rng(seed)
    known = rng.integers(0, 1 << 8 * WIDTHS[dtype], count, f"u{WIDTHS[dtype]}")  # NaNs, infinities, zeros of both signs
    stored = known[rng.integers(0, count, size)].view(DTYPES[dtype].storage)
    book = Codebook.from_values(stored, dtype)
    assert book.storage().tobytes() == stored.tobytes()
    assert len(values(book.values, dtype)) == len(set(values(stored.tobytes(), dtype)))
    assert ascending(values(book.values, dtype))
    assert Codebook.assemble(book.signature, book.fields, list(book.symbols()), []) == book
    np.testing.assert_array_equal(book.decode(), to_numpy(stored, dtype))


def test_values_ascend_and_the_most_frequent_has_code_0():
    stored = np.array([[3, -1, 0.5], [0.5, -0.0, 0.0]], np.float32)
    book = Codebook.from_values(stored, "float32")
    np.testing.assert_array_equal(np.frombuffer(book.values, np.float32), [-1, -0.0, 0, 0.5, 3])
    assert book.codes.tolist() == [1, -3, 0, 0, -2, -1]
    assert (book.zero, book.shape, str(book), book.details) == (3, (2, 3), "codebook of 5", {"values": 5})
    assert book.zeros() == 2


def test_values_of_bfloat16_ascend_as_numbers():
    stored = np.arange(1 << 16, dtype=np.uint16)[:: 1 << 8]
    numbers = to_numpy(np.frombuffer(Codebook.from_values(stored, "bfloat16").values, np.uint16), "bfloat16")
    finite = numbers[np.isfinite(numbers)]
    assert (np.diff(finite) >= 0).all()
    assert finite.size > 250


@pytest.mark.parametrize("shape", [(), (1,), (2, 3), (1, 2, 1, 2, 1)])
def test_shapes_are_kept(shape):
    assert Codebook.from_values(np.ones(shape, np.float32), "float32").decode().shape == shape


@given(st.sampled_from(["u2", "u4", "u8"]), st.integers(1, 300), st.integers(0, 999), st.integers(1, 256))
def test_different_values_are_told_as_numpy_tells_them(dtype, values, seed, most):
    rng = np.random.default_rng(seed)
    known = rng.integers(0, np.iinfo(dtype).max, values, dtype, endpoint=True)
    words, numbers = known[rng.integers(0, values, 700)], np.empty(700, np.int32)
    found = _native.distinct(words, most, numbers)
    if np.unique(words).size > most:
        assert found is None
    else:
        assert sorted(found.tolist()) == np.unique(words).tolist()
        np.testing.assert_array_equal(found[numbers], words)


def test_more_values_than_a_codebook_holds_are_noticed():
    words = np.zeros(1 << 20, np.uint32)
    words[-256:] = np.arange(256)
    assert Codebook.from_values(words.view(np.float32), "float32").details == {"values": 256}
    words[-300] = 256
    with pytest.raises(BadInput, match="too many or no values, expected 1 to 256"):
        Codebook.from_values(words.view(np.float32), "float32")
    with pytest.raises(ValueError, match="sizes do not fit"):
        _native.distinct(words, 256, np.empty(3, np.int32))


def test_books_compare_by_content():
    book, other = (Codebook.from_values(np.array(x, np.float32), "float32") for x in ([1, 1, 2], [1, 2, 1]))
    assert book == Codebook.from_values(np.array([1, 1, 2], np.float32), "float32")
    assert book != other
    assert book != "book"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0], bytes(3), 0, (1,), "float32"), "3 bytes of values, number 0 of code 0; expected 1 to 256 values of 4"),
        (([0], b"", 0, (1,), "float32"), "0 bytes of values"),
        (([0], bytes(257 * 2), 0, (1,), "float16"), "514 bytes of values"),
        (([0], bytes(4), 1, (1,), "float32"), "number 1 of code 0"),
        (([0], bytes(4), -1, (1,), "float32"), "number -1 of code 0"),
        (([0], bytes(8), 0, (1,), "float32"), "do not ascend"),
        (([0], bytes(4) + b"\0\0\0\x80", 0, (1,), "float32"), "do not ascend"),
        (([0, 1], bytes(4), 0, (2,), "float32"), "codes from 0 to 1, expected 0 to 0"),
        (([-1], bytes(4) + b"\1\0\0\0", 0, (1,), "float32"), "codes from -1 to -1, expected 0 to 1"),
        (([0], bytes(4), 0, (2,), "float32"), r"codes are int32 of \(1,\), expected int32 of \(2,\)"),
        (([0], bytes(4), 0, (1,), "int32"), "a codebook of dtype int32, expected one of float16"),
    ],
)
def test_unusable_books_are_refused(arguments, message):
    codes, *others = arguments
    with pytest.raises(BadInput, match=message):
        Codebook(np.array(codes, np.int32), *others)


@pytest.mark.parametrize("stored", [np.arange(257, dtype=np.float32), np.zeros(0, np.float32)])
def test_tensors_with_too_many_or_no_values_are_refused(stored):
    with pytest.raises(BadInput, match=f"a tensor of {stored.size} elements and too many or no values"):
        Codebook.from_values(stored, "float32")


@pytest.mark.parametrize(("dtype", "bits"), [("float32", 4), ("bfloat16", 4), ("float32", 8)])
def test_a_palette_costs_the_entropy_of_its_codes(dtype, bits):
    rng = np.random.default_rng(0)
    known = np.sort(rng.normal(size=1 << bits)).astype(np.float32)
    counts = rng.multinomial(200_000, np.exp(-(known**2)) / np.exp(-(known**2)).sum())
    entropy = (counts[counts > 0] * np.log2(200_000 / counts[counts > 0])).sum() / 8
    stored = rng.permutation(np.repeat(known.view(np.uint32), counts))
    stored = (stored >> 16).astype(np.uint16) if dtype == "bfloat16" else stored.view(np.float32)
    book = Codebook.from_values(stored.reshape(400, 500), dtype)
    data = pack({"a": book}, {}, None)
    assert len(data) < 1.01 * entropy + 4 * known.size + 150
    with File(data) as file:
        assert file.representation("a") == book
        assert file.attribution()["codebooks"] >= len(book.values) * 0.6
        file.check()
    assert len(data) < 0.8 * packed_size({"a": Raw(stored.tobytes(), stored.shape, dtype)}, {}, None)


def test_rows_of_unlike_scale_get_classes():
    rng = np.random.default_rng(0)
    codes = np.rint(rng.laplace(size=(128, 200)) * np.exp(rng.normal(size=(128, 1)))).clip(-100, 100)
    with File(pack({"a": Codebook.from_values((codes / 7).astype(np.float32), "float32")}, {}, None)) as file:
        assert file.attribution()["classes"] > 0
        np.testing.assert_array_equal(file.array("a"), (codes / 7).astype(np.float32))


def test_codes_share_a_stream_with_those_of_grids():
    codes = np.random.default_rng(0).laplace(size=300).astype(np.int32)
    book = Codebook.from_values(codes.astype(np.float32), "float32")
    items = {"book": book, "grid": Grid(codes, 30000, 40, (300,), "float16")}
    with File(pack(items, {}, None)) as file:
        assert len(file.index.streams) == 1
        assert {name: file.representation(name) for name in items} == items


def test_decoding_takes_memory_in_proportion():
    book = Codebook.from_values(np.repeat(np.arange(4, dtype=np.float16), 1 << 20), "float16")
    data = pack({"a": book}, {}, None)
    tracemalloc.start()
    with File(data) as file:
        file.check()
    assert tracemalloc.get_traced_memory()[1] < 4 * book.nbytes
    tracemalloc.stop()
