"""What holds for every kind of tensor, whatever it is."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

from noworse.errors import BadInput
from noworse.representation import (
    BYTES,
    CODES,
    DTYPES,
    KINDS,
    NOTHING,
    Constant,
    Product,
    Representation,
    Signature,
    base,
    register,
)
from noworse.representation.columns import Cursor
from tests.format.golden_files import SMALL
from tests.format.nwt_files import strategies
from tests.format.reference_kinds import KINDS as REFERENCE

kinds = pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.label)


def examples(kind):
    """Those in golden files, factors included."""
    items = [item for make in SMALL.values() for item in make().values()]
    items += [other for item in items for other in item.others if isinstance(other, Representation)]
    return [item for item in items if type(item) is kind]


def test_numbers_and_names_are_unique_and_fit_a_byte():
    assert [kind.number for kind in KINDS.values()] == list(KINDS) == list(range(len(KINDS)))
    assert len(KINDS) <= 256
    assert len({kind.label for kind in KINDS.values()}) == len(KINDS)
    columns = [kind.column for kind in KINDS.values() if kind.column]
    assert len(set(columns)) == len(columns)


@pytest.mark.parametrize("number", [-1, 2, 256])
def test_a_number_is_free_and_fits_a_byte(number, monkeypatch):
    monkeypatch.setattr(base, "KINDS", dict(KINDS))
    with pytest.raises(BadInput, match=f"kind 'other' has number {number}: expected one of 0 to 255 that no other"):
        register(type("Other", (Constant,), {"number": number, "label": "other"}))
    assert base.KINDS == KINDS
    register(type("Other", (Constant,), {"number": 8, "label": "other"}))
    assert list(base.KINDS) == [*KINDS, 8]


@kinds
def test_a_kind_is_one_file(kind):
    assert inspect.getmodule(kind).__name__ == f"noworse.representation.{kind.label}"


@kinds
def test_tests_know_it(kind):
    assert examples(kind), "no golden file holds it"
    assert kind in strategies(100) or kind.refers
    assert (REFERENCE[kind.number].codes, REFERENCE[kind.number].plain) == (kind.holds == CODES, kind.holds == BYTES)


@kinds
def test_streams_are_those_declared(kind):
    for item in examples(kind):
        streams = list(item.symbols())
        width = {NOTHING: 0, CODES: 1, BYTES: DTYPES[item.dtype].itemsize}[kind.holds]
        assert item.signature.streams == (width if item.size else 0)
        assert [stream.shape for stream in streams if item.size] == [(item.size,)] * item.signature.streams
        assert len(item.signature.value) == kind.value_bytes(DTYPES[item.dtype])


@kinds
def test_it_is_put_together_from_what_it_was_taken_apart_to(kind):
    for item in examples(kind):
        signature, streams = item.signature, list(item.symbols())
        kind.check(signature, others(item))
        assert bool(kind.multiplications(signature, others(item))) == (kind is Product)
        assert kind.assemble(signature, item.fields, streams if item.size else [], item.others) == item
        assert kind.refers or item.decode().flags.writeable


def others(item):
    """Signatures of its factors, or one of a tensor that it may refer to."""
    alike = Signature(Constant, item.dtype, item.shape)
    return [other.signature if isinstance(other, Representation) else alike for other in item.others]


@kinds
def test_header_fields_round_trip(kind):
    items = examples(kind)
    packed, tail = kind.pack([item.fields for item in items])
    assert bool(packed) == bool(kind.column)
    cursor, behind = Cursor(packed), Cursor(tail)
    assert list(kind.unpack(cursor, behind, [item.signature for item in items])) == [item.fields for item in items]
    assert cursor.left == behind.left == 0


@kinds
def test_people_are_told_what_it_is(kind):
    for item in examples(kind):
        assert str(item).startswith("= " if kind.refers else kind.label)
        assert all(str(value) in str(item) for value in item.details.values())
        assert item.zeros() == (None if kind.refers else np.count_nonzero(item.decode() == 0))
