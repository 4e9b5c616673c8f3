"""Grids as other tools lay them out (llama.cpp's Q4_0, Q4_1 and Q8_0, GPTQ, ternary nets) are found, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from noworse.checkpoint.lattice import on_groups
from noworse.checkpoint.storage import lossless
from noworse.representation import Codebook, Raw, from_float32

SHAPE = (64, 256)


def normal(size, seed=0):
    return np.random.default_rng(seed).normal(size=(np.prod(SHAPE) // size, size)).astype(np.float32)


def half(values):
    return values.astype(np.float16).astype(np.float32)[:, None]


def q4_0():
    w = normal(32)
    step = half(w[np.arange(len(w)), np.abs(w).argmax(1)] / -8)
    return step * (np.clip(np.rint(w / step) + 8, 0, 15).astype(np.uint8).astype(np.float32) - 8)


def q4_1():
    w = normal(32)
    step, low = half((w.max(1) - w.min(1)) / 15), half(w.min(1))
    return step * np.clip(np.rint((w - low) / step), 0, 15).astype(np.float32) + low


def q8_0():
    w = normal(32)
    step = half(np.abs(w).max(1) / 127)
    return step * np.rint(w / step).astype(np.int8).astype(np.float32)


def gptq():
    w = normal(128)
    step = half((w.max(1) - w.min(1)) / 15)
    zero = np.rint(-w.min(1, keepdims=True) / step)
    return step * (np.clip(np.rint(w / step) + zero, 0, 15) - zero).astype(np.float32)


def rows():
    scales = np.random.default_rng(1).random((64, 1)).astype(np.float32)
    return scales * (np.rint(25 * normal(256)) + 0).astype(np.float32)


LAYOUTS = {
    "q4_0": (q4_0, "float32", 32, "uint8"),
    "q4_1": (q4_1, "float32", 32, "float16"),
    "q8_0": (q8_0, "float32", 32, "uint8"),
    "gptq": (gptq, "float32", 128, "uint8"),
    "gptq in float16": (gptq, "float16", 128, "uint8"),
    "gptq in bfloat16": (gptq, "bfloat16", 128, "uint8"),
    "integers by row": (rows, "float32", 256, "uint8"),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_grids_of_others_come_back_bit_for_bit(name):
    make, dtype, size, shifts = LAYOUTS[name]
    stored = from_float32(make().reshape(SHAPE), dtype)
    found = on_groups(stored, dtype)
    assert found is not None
    assert found.storage().tobytes() == stored.tobytes()
    assert (found.details["group"], found.details["shifts"]) == (size, shifts)
    assert type(lossless(stored, dtype)) is type(found)


def test_groups_of_nothing_and_zeros_of_both_signs_come_back():
    values = q4_0()
    values[3:5] = 0.0
    values[7] = -0.0
    found = on_groups(values.reshape(SHAPE), "float32")
    assert found is not None
    assert found.storage().tobytes() == values.tobytes()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_other_tensors_are_on_no_grid(dtype):
    assert on_groups(from_float32(normal(256), dtype), dtype) is None
    almost = q4_1().reshape(SHAPE)
    almost[40, 100] += np.float32(1e-3)
    assert on_groups(almost, "float32") is None
    almost[40, 100] = np.nan
    assert on_groups(almost, "float32") is None


def test_what_is_smallest_is_taken():
    ternary = np.float32(0.0371) * np.random.default_rng(0).integers(-1, 2, SHAPE).astype(np.float32)
    assert type(lossless(ternary, "float32")) is Codebook  # without a scale for each row
    assert type(lossless(normal(256), "float32")) is Raw
    assert on_groups(np.zeros(0, np.float32), "float32") is None
    assert on_groups(np.float32(3), "float32") is None
