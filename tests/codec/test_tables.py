from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from noworse.codec import _native
from noworse.errors import CorruptFile
from tests.codec import reference_codec
from tests.codec.streams import decode
from tests.codec.table_writer import Levels, Writer, classes_of, constant, fold, header, stream_of, zigzag

MAX_CODE, MAX_LEVEL, MAX_SYMBOLS = 1 << 30, 1 << 14, 4096


def parse(data: bytes) -> dict[str, object]:
    lo, freqs, bits, golomb, single = _native.Tables(data).table()
    return {"lo": lo, "freqs": freqs.tolist(), "bits": bits, "golomb": golomb, "single": single}


levels = st.lists(st.one_of(st.integers(0, 3), st.integers(0, 200), st.integers(0, MAX_LEVEL)), min_size=2, max_size=60)


@given(levels, st.data())
@settings(max_examples=300)
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
        first=data.draw(st.integers(1, 16)),
        ratio=1 if small else data.draw(st.integers(1, 16)),
        spread=1 if small else data.draw(st.integers(0, 7)),
    )
    wide, single = data.draw(st.booleans()), data.draw(st.booleans())
    stored = stream_of(written, wide, single)
    table = parse(stored)
    assert reference_codec.read_tables(stored)[0] == [table]
    used = [*values, written.escape] if written.escape else values
    assert table == {
        "lo": written.peak - below,
        "freqs": reference_codec.normalise([level**2 for level in used], 14 if wide else 12),
        "bits": 14 if wide else 12,
        "golomb": written.golomb if written.escape else -1,
        "single": single,
    }


@given(st.lists(st.integers(1, 300), min_size=2, max_size=16), st.data())
@settings(max_examples=50)
def test_several_tables_survive_in_order(peaks: list[int], data: st.DataObject) -> None:
    tables = [Levels(i, 1, (peak, peak + 1)) for i, peak in enumerate(peaks)]
    widths = data.draw(st.lists(st.integers(1, 4), min_size=len(peaks) - 1, max_size=len(peaks) - 1))
    found = _native.Tables(classes_of(tables, widths), True)
    expected, _ = reference_codec.read_tables(classes_of(tables, widths), True)
    assert [found.table(i)[0] for i in range(len(found))] == [t["lo"] for t in expected] == [*range(-1, len(peaks) - 1)]
    assert [found.table(i)[1].tolist() for i in range(len(found))] == [t["freqs"] for t in expected]
    with pytest.raises(ValueError, match="no such table"):
        found.table(len(peaks))


@given(st.integers(-MAX_CODE, MAX_CODE))
def test_constant_tables_survive(value: int) -> None:
    table = _native.Tables(constant(value))
    assert table.constant
    assert table.bounds == (value, value)


def test_the_constant_zero_is_stored_as_nothing() -> None:
    assert constant(0) == b""


weights = st.lists(st.one_of(st.just(0), st.integers(1, 5), st.integers(1, 1 << 20)), min_size=1, max_size=80)


@given(weights.filter(any), st.sampled_from([12, 14]))
@settings(max_examples=200)
def test_frequencies_sum_to_the_total_and_follow_the_specification(values: list[int], bits: int) -> None:
    f = _native.normalise(np.array(values, np.uint64), bits)
    assert int(f.sum()) == 1 << bits
    assert [x > 0 for x in f] == [w > 0 for w in values]
    assert f.tolist() == reference_codec.normalise(values, bits)


@given(st.integers(2, 400), st.integers(0, 2**31))
@settings(max_examples=50)
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


def test_folding_ranks_near_levels_first() -> None:
    """What tests write agrees with what docs/format.md says in words."""
    assert sorted(range(9), key=lambda level: fold(level, 3)) == [3, 4, 2, 5, 1, 6, 0, 7, 8]
    assert sorted(range(-3, 3), key=zigzag) == [0, -1, 1, -2, 2, -3]


@pytest.mark.parametrize("classes", [False, True])
def test_random_bytes_are_a_table_or_refused(classes: bool) -> None:
    rng = np.random.default_rng(3)
    good = 0
    for _ in range(4000):
        data = rng.bytes(int(rng.integers(0, 40)))
        try:
            tables = _native.Tables(data, classes)
        except ValueError:
            continue
        good += 1
        for number in range(len(tables)):
            lo, freqs, bits, _, _ = tables.table(number)
            assert int(freqs.sum()) == 1 << bits
            assert -MAX_CODE <= lo <= MAX_CODE
            assert len(freqs) <= MAX_SYMBOLS + 1
    assert good < 4000


def start(*fields: tuple[int, int] | int | None) -> Writer:
    out = Writer()
    out.uniform(1, 1)
    out.more(False, 4)
    out.more(False, 4)
    header(out, *fields)
    return out


@pytest.mark.parametrize(
    ("writer", "message"),
    [
        (start(None, 0, MAX_SYMBOLS // 2, MAX_SYMBOLS // 2, 5), "symbols"),
        (start(None, 0, 0, -1, 5), "symbols"),
        (start(None, 0, 1 << 32, 0, 5), "symbols"),
        (start((31, 1), 0, 0, 0, 5), "escape"),
        (start((0, MAX_LEVEL + 1), 0, 0, 0, 5), "escape"),
        (start((0, 1), 0, 0, 0, MAX_LEVEL + 1), "level"),
        (start(None, 0, 0, 0, 5), "one symbol"),
        (start((0, 1), 0, 0, 0, 0), "one symbol"),
        (start(None, 0, 0, 0, 0), "damaged"),
        (start((0, 1), MAX_CODE + 1, 0, 0, 5), "alphabet"),
        (start((0, 1), -MAX_CODE - 1, 0, 0, 5), "alphabet"),
    ],
)
def test_hostile_tables_are_refused_with_a_reason(writer: Writer, message: str) -> None:
    with pytest.raises(CorruptFile, match=message):
        decode(writer.to_bytes(), [b""], 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff" * 20_000, "at most 16384"),
        (b"\x07\x00", "zero byte"),
        (b"\xff" * 50, "more than 32 bits"),
        (constant(3) + b"\x01", "left"),
        (constant(MAX_CODE + 1), "at most"),
    ],
)
def test_damaged_tables_are_refused_with_a_reason(data: bytes, message: str) -> None:
    with pytest.raises(CorruptFile, match=message):
        decode(data, [b""], 1)


def test_too_many_classes_are_refused() -> None:
    tables = [Levels(0, 0, (1, 1))] * 3
    with pytest.raises(ValueError, match="too many"):
        _native.Tables(classes_of(tables, [40, 40]), True)


def test_native_functions_refuse_other_arrays() -> None:
    tables, lengths = _native.Tables(constant(1)), _native.Lengths([0], [])
    for out in (np.zeros(4, np.int64), np.zeros(8, np.int32)[::2], np.zeros((2, 2), np.int32)):
        with pytest.raises(TypeError):
            _native.decode(tables, np.zeros(0, np.uint8), lengths, out)
