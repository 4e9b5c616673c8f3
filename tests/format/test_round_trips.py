"""Ten thousand tensors, bit for bit: every dtype, odd shapes, odd strides, odd values; many to a file, for speed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from noworse.io import load_file, save_file
from noworse.representation import DTYPES, find_dtype

FILES, TENSORS = 20, 500
SHAPES = [(), (0,), (3, 0, 2), (1,), (7,), (64,), (3, 5), (2, 3, 4), (2, 1, 3, 5), (2, 3, 1, 2, 4)]
LARGE = (16, 80)  # with streams of its own
CONTENTS = ["constant", "two symbols", "65,536 symbols", "NaN payloads", "infinities", "minus zero", "denormals", "any"]
LAYOUTS = ["contiguous", "transposed", "every second", "reversed", "expanded"]
EXPONENTS = {"float16": 5, "bfloat16": 8, "float32": 8, "complex64": 8, "float64": 11, "complex128": 11,
             "float8_e4m3fn": 4, "float8_e5m2": 5, "float8_e4m3fnuz": 4, "float8_e5m2fnuz": 5}  # fmt: skip


def bits_of(dtype: str, content: str, count: int, rng: np.random.Generator) -> NDArray[Any]:
    """Elements as unsigned integers (real and imaginary part apart)."""
    parts, width = (2, find_dtype(dtype).itemsize // 2) if "complex" in dtype else (1, find_dtype(dtype).itemsize)
    words = rng.integers(0, 1 << 8 * width, count * parts, f"u{width}", endpoint=False)
    exponent = EXPONENTS.get(dtype, 0)
    fraction = 8 * width - 1 - exponent
    ones = ((1 << exponent) - 1) << fraction
    if dtype == "bool":
        words &= 1
    if content == "constant":
        words[:] = words[:1] if count else 0
    elif content == "two symbols":
        words = rng.choice(words[:2], count * parts) if count else words
    elif content == "65,536 symbols" and width > 1:
        words = rng.permutation(np.arange(1 << 16).astype(f"u{width}"))
    elif content in ("NaN payloads", "infinities") and exponent:
        words |= words.dtype.type(ones)
        if content == "infinities":
            words &= words.dtype.type(ones | 1 << 8 * width - 1)
    elif content == "minus zero":
        words[:] = 0 if dtype == "bool" else 1 << 8 * width - 1
        words[: count * parts // 2] = 0
    elif content == "denormals":
        words &= words.dtype.type(1 if dtype == "bool" else ~ones & (1 << 8 * width) - 1)
    return words


def tensor(dtype: str, shape: tuple[int, ...], content: str, layout: str, seed: int) -> Tensor | NDArray[Any]:
    rng = np.random.default_rng(seed)
    if seed % 32 == 7:  # few, since these take most of the time
        shape = LARGE
    elif content == "65,536 symbols":
        content = "any"
    words = bits_of(dtype, content, int(np.prod(shape)), rng)
    if content == "65,536 symbols" and len(words) == 1 << 16:
        shape = (256, 128 if "complex" in dtype else 256)
    storage = find_dtype(dtype).storage
    array = words.view(storage).reshape(shape)
    if layout == "every second" and array.ndim:
        array = np.repeat(array, 2, axis=-1)[..., ::2]
    elif layout == "transposed":
        array = np.ascontiguousarray(array.T).T
    elif layout == "expanded" and array.ndim:
        array = np.broadcast_to(array[:1], array.shape)
    elif layout == "reversed" and find_dtype(dtype).native:
        return np.ascontiguousarray(array[::-1])[::-1] if array.ndim else array
    return torch.from_numpy(array).view(getattr(torch, dtype))


def bits(tensor: Tensor | NDArray[Any]) -> bytes:
    if isinstance(tensor, np.ndarray):
        return tensor.tobytes()
    flat = torch.empty(tensor.shape, dtype=tensor.dtype).copy_(tensor)
    return flat.reshape(-1).view(torch.uint8).numpy().tobytes()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
@settings(max_examples=FILES, suppress_health_check=list(HealthCheck))
@given(st.binary(min_size=5 * TENSORS, max_size=5 * TENSORS))
@example(bytes(i * j % 251 for i in range(TENSORS) for j in (1, 3, 7, 11, 13)))
def test_tensors_come_back_bit_for_bit(tmp_path_factory: pytest.TempPathFactory, choices: bytes) -> None:
    path, names = folder(tmp_path_factory) / "a.nwt", list(DTYPES)
    tensors = {}
    for number, (a, b, c, d, seed) in enumerate(zip(*[iter(choices)] * 5, strict=True)):
        shape, content, layout = SHAPES[b % len(SHAPES)], CONTENTS[c % len(CONTENTS)], LAYOUTS[d % len(LAYOUTS)]
        tensors[str(number)] = tensor(names[a % len(names)], shape, content, layout, seed)
    save_file(tensors, path)
    found = load_file(path)
    assert list(found) == list(tensors)
    for name, kept in tensors.items():
        assert str(found[name].dtype).removeprefix("torch.") == str(kept.dtype).removeprefix("torch.")
        assert tuple(found[name].shape) == tuple(kept.shape)
        assert bits(found[name]) == bits(kept)


def folder(factory: pytest.TempPathFactory, made: list[Path] = []) -> Path:  # noqa: B006
    """One folder for all examples."""
    if not made:
        made.append(factory.mktemp("round_trips"))
    return made[0]
