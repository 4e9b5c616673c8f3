"""Measurements of one .nwt file: time to encode and to decode its tensors, size against entropy, time to load it."""

import tempfile
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from noworse.checkpoint import write_safetensors
from noworse.errors import BadInput
from noworse.format import File, packed_size
from noworse.io import Framework, load_file
from noworse.representation import DTYPES, NOTHING


def bench_file(path: Path, rounds: int, max_bytes: int | None = None) -> dict[str, Any]:
    """Return sizes in bytes and medians over ``rounds`` in seconds; one tensor at a time is in memory, unless loading.

    Times of encode and decode are summed over tensors, without the digest and with the file in the system's cache.
    ``entropy_bytes`` is the order-0 entropy of all codes, or of the byte planes of lossless tensors (at most 8 bits).
    CorruptFile for a damaged file.
    """
    encode, decode = np.zeros(rounds), np.zeros(rounds)
    entropy, symbols = 0.0, 0
    with File(path, max_bytes) as file:
        file.check()
        coder = "max" if any(stream.in_context for stream in file.index.streams) else "fast"
        own = [name for name in file.names if file.entry(name).signature.kind.holds != NOTHING]
        for name in own:
            item = file.representation(name)
            for stream in item.symbols():
                counts = np.unique(stream, return_counts=True)[1].astype(np.float64)
                entropy += float(counts @ np.log2(stream.size / counts))
                symbols += stream.size
            for number in range(rounds):
                encode[number] += _seconds(partial(packed_size, {"t": item}, {}, None, coder))
                decode[number] += _seconds(partial(file.storage, name))
        decoded = sum(file.entry(name).signature.nbytes for name in own)
        where = file.attribution()
        size = file.size
    framework: Framework = "torch" if find_spec("torch") else "numpy"
    return {
        "size": size,
        "decoded_bytes": decoded,
        "symbols": symbols,
        "coded_bytes": sum(where.get(what, 0) for what in ("payload", "tables", "classes")),
        "entropy_bytes": entropy / 8,
        "encode": _speed(float(median(encode)), decoded, symbols),
        "decode": _speed(float(median(decode)), decoded, symbols),
        "framework": framework,
        "load_seconds": _median(rounds, lambda: load_file(path, framework=framework, max_bytes=max_bytes)),
        "safetensors_seconds": _safetensors_seconds(path, rounds, framework, max_bytes),
        "rounds": rounds,
    }


def _speed(seconds: float, decoded: int, symbols: int) -> dict[str, float]:
    time = max(seconds, 1e-9)  # of an empty file
    return {"seconds": seconds, "megabytes_per_second": decoded / time / 1e6, "symbols_per_second": symbols / time}


def _safetensors_seconds(path: Path, rounds: int, framework: str, max_bytes: int | None) -> float | None:
    """Reading the same tensors from a safetensors file; None without the package, or for dtypes that it lacks."""
    if find_spec("safetensors") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "same.safetensors"
        try:
            with File(path, max_bytes) as file, out.open("wb") as stream:
                if framework == "numpy" and not all(
                    DTYPES[file.entry(name).signature.dtype].native for name in file.names
                ):
                    return None
                write_safetensors(file, stream)
        except BadInput:
            return None
        return _median(rounds, lambda: _load_safetensors(out, framework))


def _load_safetensors(path: Path, framework: str) -> None:
    """Every tensor once, copied into memory of its own as ``load_file`` of this package does."""
    from safetensors import safe_open

    with safe_open(path, framework="pt" if framework == "torch" else "numpy") as file:
        for name in file.keys():  # noqa: SIM118  (it is no dictionary)
            tensor = file.get_tensor(name)
            tensor.clone() if framework == "torch" else tensor.copy()


def _median(rounds: int, action: Callable[[], Any]) -> float:
    return float(median(_seconds(action) for _ in range(rounds)))


def _seconds(action: Callable[[], Any]) -> float:
    start = perf_counter()
    action()
    return perf_counter() - start
