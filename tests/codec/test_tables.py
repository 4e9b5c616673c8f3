from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noworse.codec import _native
from noworse.codec.ans import Writer
from noworse.codec.tables import (
    MAX_CODE,
    MAX_LEVEL,
    MAX_SYMBOLS,
    Levels,
    constant,
    fold,
    parse,
    unfold,
    unzigzag,
    zigzag,
)
from noworse.errors import CorruptFile
from tests.codec import reference_codec

levels = st.lists(st.one_of(st.integers(0, 3), st.integers(0, 200), st.integers(0, MAX_LEVEL)), min_size=2, max_size=60)


@given(levels, st.data())
@settings(deadline=None, max_examples=300)
def test_any_levels_survive_and_the_reference_agrees(values: list[int], data: st.DataObject) -> None:
    values[0], values[-1] = max(1, values[0]), max(1, values[-1])
    below = data.draw(st.integers(0, len(values) - 1))
    small = max(below, len(values) - 1 - below) < 2
    written = Levels(
        peak=data.draw(st.one_of(st.integers(-9, 9), st.integers(-MAX_CODE + 60, MAX_CODE - 60))),
        below=below,
        values=tuple(values),
        escape=data.draw(st.integers(0, 500)),
        golomb=data.draw(st.integers(0, 30)),
        wide=data.draw(st.booleans()),
        single=data.draw(st.booleans()),
        first=data.draw(st.integers(1, 16)),
        ratio=1 if small else data.draw(st.integers(1, 16)),
        spread=1 if small else data.draw(st.integers(0, 7)),
    )
    stored = written.to_bytes()
    table, expected = parse(stored), written.table()
    np.testing.assert_array_equal(table.freqs, expected.freqs)
    other = reference_codec.read_table(stored)
    assert other["freqs"] == table.freqs.tolist()
    for name in ("lo", "bits", "golomb", "single"):
        assert other[name] == getattr(table, name) == getattr(expected, name)


@given(st.integers(-MAX_CODE, MAX_CODE))
def test_constant_tables_survive(value: int) -> None:
    table = parse(constant(value))
    assert table.constant
    assert table.lo == value


def test_the_constant_zero_is_stored_as_nothing() -> None:
    assert constant(0) == b""


weights = st.lists(st.one_of(st.just(0), st.integers(1, 5), st.integers(1, 1 << 20)), min_size=1, max_size=80)


@given(weights.filter(any), st.sampled_from([12, 14]))
@settings(deadline=None, max_examples=200)
def test_frequencies_sum_to_the_total_and_follow_the_specification(values: list[int], bits: int) -> None:
    f = _native.normalise(np.array(values, np.uint64), bits)
    assert int(f.sum()) == 1 << bits
    assert [x > 0 for x in f] == [w > 0 for w in values]
    assert f.tolist() == reference_codec.normalise(values, bits)


@given(st.integers(2, 400), st.integers(0, 2**31))
@settings(deadline=None, max_examples=50)
def test_frequencies_are_nearly_optimal(n: int, seed: int) -> None:
    w = (np.random.default_rng(seed).pareto(0.7, n) * 3).astype(np.uint64) + np.uint64(1)
    f = _native.normalise(w, 12).astype(np.float64)
    # an optimum has no pair between which moving one unit helps; ours may miss it by little
    gain = np.log2((f + 1) / f) * w
    with np.errstate(divide="ignore"):
        loss = np.where(f > 1, np.log2(f / np.maximum(f - 1, 1e-300)) * w, np.inf)
    length = float(w @ (12 - np.log2(f)))
    assert gain.max() - loss.min() <= 2e-3 * length


def test_normalising_refuses_what_cannot_be_done() -> None:
    for values, bits in [([0, 0], 12), ([], 12), ([1] * 4097, 12), ([1 << 41], 12), ([1], 15), ([1], 0)]:
        with pytest.raises(ValueError, match=r"weight|symbols|bits"):
            _native.normalise(np.array(values, np.uint64), bits)


def test_histogram_counts_inside_and_outside() -> None:
    codes = np.random.default_rng(0).integers(-50, 50, 10_001).astype(np.int32)
    counts, outside = _native.histogram(codes, -20, 33)
    expected = [int((codes == v).sum()) for v in range(-20, 13)]
    assert counts.tolist() == expected
    assert outside == len(codes) - sum(expected)
    assert _native.bounds(codes) == (codes.min(), codes.max())
    assert _native.bounds(codes[:0]) == (0, 0)


@given(st.integers(0, 5000), st.integers(0, 3000))
def test_folding_inverts(level: int, p: int) -> None:
    rank = fold(level, p)
    assert rank >= 0
    assert unfold(rank, p) == level


def test_folding_ranks_near_levels_first() -> None:
    assert sorted(range(9), key=lambda level: fold(level, 3)) == [3, 4, 2, 5, 1, 6, 0, 7, 8]
    assert [unzigzag(zigzag(v)) for v in range(-9, 9)] == list(range(-9, 9))
    assert sorted(range(-3, 3), key=zigzag) == [0, -1, 1, -2, 2, -3]


def test_random_bytes_are_a_table_or_corrupt() -> None:
    rng = np.random.default_rng(3)
    good = 0
    for _ in range(4000):
        data = rng.bytes(int(rng.integers(0, 40)))
        try:
            table = parse(data)
        except CorruptFile:
            continue
        good += 1
        assert int(table.freqs.sum()) == 1 << table.bits
        assert -MAX_CODE <= table.lo <= MAX_CODE
        assert len(table.freqs) <= MAX_SYMBOLS + 1
    assert good < 4000


def header(escape: tuple[int, int] | None, peak: int, below: int, above: int, level: int) -> Writer:
    out = Writer()
    out.uniform(1, 1)
    for flag in (False, False, escape is not None):
        out.more(flag, 4)
    if escape is not None:
        out.gamma(escape[0], 1)
        out.gamma(escape[1] - 1, 1)
    out.gamma(zigzag(peak), 0)
    out.gamma(below, 2)
    out.gamma(zigzag(above - below), 1)
    out.gamma(level, 4)
    return out


@pytest.mark.parametrize(
    ("writer", "message"),
    [
        (header(None, 0, MAX_SYMBOLS // 2, MAX_SYMBOLS // 2, 5), "symbols"),
        (header(None, 0, 0, -1, 5), "symbols"),
        (header(None, 0, 1 << 32, 0, 5), "symbols"),
        (header((31, 1), 0, 0, 0, 5), "escape"),
        (header((0, MAX_LEVEL + 1), 0, 0, 0, 5), "escape"),
        (header((0, 1), 0, 0, 0, MAX_LEVEL + 1), "level"),
        (header(None, 0, 0, 0, 5), "one symbol"),
        (header((0, 1), 0, 0, 0, 0), "one symbol"),
        (header(None, 0, 0, 0, 0), "damaged"),
        (header((0, 1), MAX_CODE + 1, 0, 0, 5), "covers"),
        (header((0, 1), -MAX_CODE - 1, 0, 0, 5), "covers"),
    ],
)
def test_hostile_tables_are_refused_with_a_reason(writer: Writer, message: str) -> None:
    with pytest.raises(CorruptFile, match=message):
        parse(writer.to_bytes())


def test_an_overlong_table_is_refused_before_reading() -> None:
    with pytest.raises(CorruptFile, match="bytes"):
        parse(b"\xff" * 20_000)
    with pytest.raises(CorruptFile, match="zero byte"):
        parse(b"\x07\x00")


def test_leftover_bytes_are_refused() -> None:
    with pytest.raises(CorruptFile, match="left"):
        parse(constant(3) + b"\x01")


@pytest.mark.parametrize(
    ("lo", "freqs", "bits", "golomb"),
    [
        (0, [4096], 12, -1),
        (0, [4000, 95], 12, -1),
        (0, [4096, 0], 12, -1),
        (0, [2048, 2048], 13, -1),
        (0, [2048, 2048], 12, 31),
        (0, [2048, 2048, 0], 12, 3),
        (MAX_CODE, [2048, 2048], 12, -1),
        (-MAX_CODE - 1, [2048, 2048], 12, -1),
    ],
)
def test_native_coder_checks_its_model(lo: int, freqs: list[int], bits: int, golomb: int) -> None:
    f = np.array(freqs, np.uint16)
    with pytest.raises(ValueError, match=r"\w"):
        _native.encode_block(np.zeros(4, np.int32), lo, f, bits, golomb, False)
    with pytest.raises(ValueError, match=r"\w"):
        _native.decode_block(b"abcd", np.zeros(4, np.int32), lo, f, bits, golomb, False)


def test_native_encoder_refuses_codes_without_frequency() -> None:
    f = np.array([2048, 0, 2048], np.uint16)
    for code in (1, 3, -1, 1 << 30):
        with pytest.raises(ValueError, match="frequency zero"):
            _native.encode_block(np.array([0, code, 2], np.int32), 0, f, 12, -1, False)


def test_native_functions_refuse_other_arrays() -> None:
    f = np.array([2048, 2048], np.uint16)
    for out in (np.zeros(4, np.int64), np.zeros(8, np.int32)[::2], np.zeros((2, 2), np.int32)):
        with pytest.raises(TypeError):
            _native.decode_block(b"", out, 0, f, 12, -1, False)
