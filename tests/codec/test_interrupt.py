"""Native code looks for signals while it works, whatever it does: handlers of Python run before it has ended.

A handler that is called more than once within one call was called from within: signals that come while nobody looks
are one when it is over.
"""

from __future__ import annotations

import importlib
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import contextmanager

import numpy as np
import pytest

from noworse import codec
from noworse.codec import Coded, CodedGrid, Decoding, _native, context, decode_into, encode, fingerprint

COUNT = 1 << 25


class Stop(Exception):
    """What a handler raises."""


@contextmanager
def alarms(act: Callable[[], None]):
    """Signals every few milliseconds, which call ``act``."""
    before = signal.signal(signal.SIGALRM, lambda *_: act())
    signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def codes():
    return np.random.default_rng(0).integers(-3, 4, COUNT, dtype=np.int8)


@pytest.fixture(scope="module")
def works(codes):
    """Calls of native code, by name."""
    few = codes[: 1 << 19].astype(np.int32)
    wide = np.random.default_rng(0).integers(-(1 << 28), 1 << 28, 1 << 22, dtype=np.int32)
    blocks, shapes = context.encode(few, [(512, 1024)]), [(512, 1024)]
    coded = encode(codes.view(np.uint8) % 8)
    stream = Coded(coded.table + b"".join(coded.blocks), len(coded.table), [len(block) for block in coded.blocks])
    small, out = np.empty(COUNT, np.uint8), np.empty(COUNT, np.float32)
    constant = encode(np.zeros(1 << 28, np.uint8)).table
    empty = Coded(constant, len(constant), [0] * (1 << 10))
    zeros, untouched = np.empty(1 << 28, np.uint8), np.zeros(1 << 30, np.uint8)  # which take no memory to read
    return {
        "encode": lambda: encode(codes, threads=1, simd=0),
        "encode with threads": lambda: [encode(codes, columns=1024, threads=3, simd=0) for _ in range(2)],
        "encode wide codes": lambda: encode(wide, threads=1),
        "encode in context": lambda: context.encode(few, shapes),
        "decode in context": lambda: context.decode(blocks, shapes),
        "decode": lambda: decode_into(stream, small, threads=1, simd=0),
        "decode with threads": lambda: decode_into(stream, small, threads=3, simd=0),
        "decode a constant": lambda: decode_into(empty, zeros, threads=1),
        "grids": lambda: Decoding([CodedGrid(stream, out, 1.0, 32)], threads=2, simd=0).results(),
        "take a plane": lambda: [_native.take_plane(small, 8, p, True, zeros[: COUNT // 8]) for p in range(8)],
        "put planes": lambda: _native.put_planes([codes.view(np.uint8)] * 8, True, zeros),
        "fingerprint": lambda: fingerprint(untouched, threads=1),
    }


NAMES = ["encode", "encode with threads", "encode wide codes", "encode in context", "decode in context", "decode",
         "decode with threads", "decode a constant", "grids", "put planes", "fingerprint"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_signals_are_handled_within_a_call(works, name):
    calls = []
    with alarms(lambda: calls.append(1)):
        works[name]()
    assert len(calls) > 1


@pytest.mark.parametrize("name", NAMES)
def test_what_a_handler_raises_ends_the_call(works, name):
    def stop():
        raise Stop

    with pytest.raises(Stop), alarms(stop):
        works[name]()


def test_interrupted_work_has_no_results(codes):
    coded = encode(codes.view(np.uint8) % 8)
    stream = Coded(coded.table + b"".join(coded.blocks), len(coded.table), [len(block) for block in coded.blocks])
    out = np.full(COUNT, 7, np.float32)
    decoding = Decoding([CodedGrid(stream, out, 1.0, 32)], threads=1, simd=0)

    def stop():
        raise Stop

    with pytest.raises(Stop), alarms(stop):
        decoding.results()
    assert out[-1] == 7, "nothing was left to do"
    with pytest.raises(RuntimeError, match="work that was interrupted has no results"):
        decoding.results()


def test_threads_beside_the_main_one_look_for_nothing(works):
    found = []
    thread = threading.Thread(target=lambda: found.append(works["decode in context"]()))
    thread.start()
    thread.join()
    assert len(found[0]) == 1 << 19


def test_a_machine_of_another_byte_order_is_refused(monkeypatch):
    monkeypatch.setattr(sys, "byteorder", "big")
    with pytest.raises(ImportError, match="noworse needs a little-endian machine, this one is big-endian"):
        importlib.reload(codec)  # which leaves the module as it was
