from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from noworse.codec.ans import Reader, Writer
from noworse.errors import CorruptFile

item = st.one_of(
    st.tuples(st.just("uniform"), st.integers(0, 255), st.just(0), st.just(8)),
    st.tuples(st.just("more"), st.booleans(), st.integers(1, 15), st.just(0)),
    st.tuples(st.just("gamma"), st.integers(0, 1 << 31), st.just(0), st.integers(0, 6)),
    st.tuples(st.just("unary"), st.integers(0, 5000), st.integers(1, 12), st.integers(0, 6)),
)


@given(st.lists(item, max_size=60))
def test_messages_survive(items: list[tuple[str, int, int, int]]) -> None:
    out = Writer()
    for kind, value, t, order in items:
        if kind == "uniform":
            out.uniform(value, order)
        elif kind == "more":
            out.more(bool(value), t)
        elif kind == "gamma":
            out.gamma(value, order)
        else:
            out.unary(value, t, order)
    source = Reader(out.to_bytes())
    for kind, value, t, order in items:
        if kind == "uniform":
            assert source.uniform(order) == value
        elif kind == "more":
            assert source.more(t) == value
        elif kind == "gamma":
            assert source.gamma(order) == value
        else:
            assert source.unary(t, order) == value
    source.finish()


@pytest.mark.parametrize("t", [1, 5, 8, 15])
def test_decisions_cost_their_information(t: int) -> None:
    out = Writer()
    choices = [i % 16 < t for i in range(1600)]
    for yes in choices:
        out.more(yes, t)
    ideal = -sum(math.log2(t / 16 if yes else 1 - t / 16) for yes in choices) / 8
    assert abs(len(out.to_bytes()) - ideal) <= 2 + 0.002 * ideal


def test_nothing_is_no_bytes() -> None:
    out = Writer()
    assert out.to_bytes() == b""
    Reader(b"").finish()


def test_damage_is_refused() -> None:
    with pytest.raises(CorruptFile, match="zero byte"):
        Reader(b"\x01\x00")
    with pytest.raises(CorruptFile, match="at most"):
        Reader(b"\x01" * 16_385)
    with pytest.raises(CorruptFile, match="more than 32 bits"):
        Reader(b"\xff" * 50).gamma(0)
    with pytest.raises(CorruptFile, match="left"):
        Reader(b"\x01").finish()


@given(st.binary(max_size=1200), st.lists(st.tuples(st.integers(1, 15), st.integers(0, 40)), max_size=400))
def test_a_reader_keeps_the_number_in_parts_exactly(data: bytes, steps: list[tuple[int, int]]) -> None:
    data = data.rstrip(b"\0")
    source, x = Reader(data), int.from_bytes(data, "little")
    for t, width in steps:
        yes = x % 16 >= 16 - t
        x = t * (x // 16) + x % 16 - (16 - t) if yes else (16 - t) * (x // 16) + x % 16
        assert source.more(t) == yes
        assert source.uniform(width) == x % 2**width
        x //= 2**width
    if x:
        with pytest.raises(CorruptFile, match="left"):
            source.finish()
    else:
        source.finish()
