"""Bit-exact storage of MiniLM's weights, in float32 as published and cast to bfloat16, beside zipnn and zstd.

All in memory and in one process, medians over rounds in which the coders take turns.
Beside the time on the clock stands the speed per second of processor time (of all threads), which says what the
machine could do where others use it as well.
Of noworse the whole file is written and read back: index, checksums and the digest of all tensors included. zipnn and
zstd get the same bytes as one buffer, and check nothing (zstd) or little. Needs zoo/requirements-pretrained.txt,
zipnn and zstandard (``pip install zstandard; pip install --no-deps zipnn``); what is missing is left out and said so.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.util import find_spec
from time import perf_counter, process_time
from typing import Any

from numpy.typing import NDArray

from benchmarks.harness import Row, Run, Section, Suite, main
from benchmarks.suites.codec_symbols import minilm_path
from noworse.checkpoint import open_checkpoint
from noworse.checkpoint.storage import lossless
from noworse.format import File, pack
from noworse.representation import Groups, from_float32

ROUNDS = 7
RATIOS = {"bfloat16": "<= 0.70", "float32": "<= 0.86"}
SPEED = ">= 400"  # MB of tensors per second

Tensors = Mapping[str, NDArray[Any]]
Coder = tuple[Callable[[], bytes], Callable[[bytes], Any]]  # to bytes, and back


def weights(dtype: str) -> Tensors:
    """MiniLM's floating-point tensors as stored elements of ``dtype``."""
    source = open_checkpoint(minilm_path())
    names = [name for name, header in source.headers.items() if header.dtype == "float32"]
    return {name: from_float32(source.read(name), dtype) for name in names}


def coders(tensors: Tensors, dtype: str) -> Iterator[tuple[str, Coder]]:
    """The coders by name; each decodes what it encoded."""

    def encode() -> bytes:
        return pack({name: lossless(stored, dtype) for name, stored in tensors.items()}, {}, None)

    def decode(data: bytes) -> bytes:
        with File(data) as file:
            return b"".join(content.tobytes() for _, content in file.stored() if not isinstance(content, str))

    yield "noworse", (encode, lambda data: _drain(data))
    whole = b"".join(stored.tobytes() for stored in tensors.values())
    assert decode(encode()) == whole, "noworse is not lossless"
    if find_spec("zipnn"):
        import zipnn

        coder = zipnn.ZipNN(input_format="byte", bytearray_dtype=dtype, threads=1)
        assert coder.decompress(coder.compress(bytearray(whole))) == whole, "zipnn is not lossless"
        # it takes a bytearray and overwrites it: the copy is part of what its user pays
        yield "zipnn", (lambda: coder.compress(bytearray(whole)), coder.decompress)
    if find_spec("zstandard"):
        import zstandard

        for level in (1, 3):
            press = zstandard.ZstdCompressor(level=level)
            yield f"zstd -{level}", (lambda press=press: press.compress(whole), zstandard.ZstdDecompressor().decompress)


def _drain(data: bytes) -> None:
    with File(data) as file:
        file.check()


def measure(dtype: str, run: Run) -> Iterator[Row]:
    """Ratio and speeds of every coder."""
    for package in ("zipnn", "zstandard"):
        if find_spec(package) is None:
            print(f"{dtype}: {package} is not installed, its rows are left out", file=sys.stderr)
    tensors = weights(dtype)
    size = sum(stored.nbytes for stored in tensors.values())
    found = dict(coders(tensors, dtype))
    times: dict[tuple[str, str], list[tuple[float, float]]] = {}
    sizes = {}
    for _ in range(1 if run.quick else ROUNDS):
        for name, (encode, decode) in found.items():
            data = _timed(times.setdefault((name, "encode"), []), encode)
            _timed(times.setdefault((name, "decode"), []), lambda decode=decode, data=data: decode(data))
            sizes[name] = len(data)
    for name in found:
        ours = name == "noworse"
        yield Row(f"{dtype}, {name}: size", sizes[name] / size, "of original", RATIOS[dtype] if ours else "")
        for what in ("encode", "decode"):
            clock, processor = (statistics.median(t) for t in zip(*times[name, what], strict=True))
            yield Row(f"{dtype}, {name}: {what}", size / clock / 1e6, "MB/s", SPEED if ours else "")
            yield Row(f"{dtype}, {name}: {what}, processor time", size / processor / 1e6, "MB/s")


def _timed(times: list[tuple[float, float]], action: Callable[[], Any]) -> Any:
    """The action's result; its seconds on the clock and of the processor are appended."""
    start, used = perf_counter(), process_time()
    result = action()
    times.append((perf_counter() - start, process_time() - used))
    return result


def grids_of_others(run: Run) -> Iterator[Row]:
    """Bits per weight of a model that others quantised, turned back into float32: SmolLM2 of a GGUF file."""
    from zoo.smollm2 import load_model

    tensors = {name: tensor.detach().numpy() for name, tensor in load_model()[0].named_parameters()}
    with File(pack({name: lossless(stored, "float32") for name, stored in tensors.items()}, {}, None)) as file:
        assert all((file.storage(name) == stored).all() for name, stored in tensors.items()), "not lossless"
        sizes = {name: file.tensor_bytes(name) for name in tensors}
        found = {name for name in tensors if isinstance(file.representation(name), Groups)}
        whole = file.size
    inner = [name for name in found if "embed" not in name]
    for what, names in (("layers", inner), ("embedding", list(found - set(inner)))):
        count = sum(tensors[name].size for name in names)
        yield Row(f"SmolLM2, {what}: size", 8 * sum(map(sizes.__getitem__, names)) / count, "bits/weight")
    yield Row("SmolLM2: size", 8 * whole / sum(t.size for t in tensors.values()), "bits/weight", "<= 4.45")


SECTIONS: dict[str, Section] = {dtype: partial(measure, dtype) for dtype in RATIOS}
SUITE = Suite("lossless", __doc__, {**SECTIONS, "grids": grids_of_others})

if __name__ == "__main__":
    main(SUITE)
